"""Pages and files: positions of pixels, formats that can be opened, and files that cannot be written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nelbo.errors import ConfigError
from nelbo.pictures import Drawing, Interpolation, Picture, Samples, Traversal
from nelbo.pictures.files import check, save
from nelbo.pictures.sheet import Sheet
from tests.helpers.factors import make_vae
from tests.helpers.scenes import COUNT, make_scene


def test_a_page_shows_the_picture_without_resampling() -> None:
    picture = torch.randint(0, 256, (3, 40, 500)) / 255
    title = "a title that is much too long for one line of this page and continues in a second line, or even a third"
    page = Sheet((40, 500), title, rows=["first", "second"], columns=["left", "right"])(picture)
    pixels = torch.from_numpy(np.asarray(page).copy()).permute(2, 0, 1)
    expected = (picture * 255).round().to(torch.uint8)
    corners = (pixels == expected[:, :1, :1]).all(dim=0).nonzero().tolist()
    places = [
        (top, left) for top, left in corners if torch.equal(pixels[:, top : top + 40, left : left + 500], expected)
    ]
    assert len(places) == 1
    (top, left) = places[0]
    margins = pixels.clone()
    margins[:, top : top + 40, left : left + 500] = 255
    for edge in (margins[:, :3], margins[:, -3:], margins[..., :3], margins[..., -3:]):
        assert (edge == 255).all()  # no text is cut off
    assert (margins[:, :top] < 128).any() and (margins[:, :, :left] < 128).any()  # the title and the labels of rows


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "kind",
    [
        Traversal(rows=3, columns=2, image=0, units=None, level=1),
        Interpolation(rows=2, columns=2, path="linear", levels="all"),
    ],
)
def test_moving_pictures(kind: Picture, channels: int, tmp_path: Path) -> None:
    shape = (channels, 6, 5)
    with torch.no_grad():
        drawing = kind(make_scene(make_vae(shape=shape), torch.rand(COUNT, *shape)))
        save(drawing, tmp_path / "x.gif")
        save(drawing, tmp_path / "x.mp4")
    with Image.open(tmp_path / "x.gif") as movie:
        first, durations = movie.convert("RGB"), []
        assert movie.n_frames > 1 and movie.info["loop"] == 0
        for number in range(movie.n_frames):  # consecutive equal frames are stored once, with a longer duration
            movie.seek(number)
            durations.append(movie.info["duration"])
        assert sum(durations) == 46 * 50
        movie.seek(movie.n_frames // 2)
        assert movie.size == first.size and movie.convert("RGB").tobytes() != first.tobytes()
    assert first.getpixel((0, 0)) == (255, 255, 255)
    from imageio_ffmpeg import count_frames_and_secs

    assert count_frames_and_secs(str(tmp_path / "x.mp4")) == (46, 46 / 20)


def test_files_that_cannot_be_written_are_an_error(tmp_path: Path) -> None:
    still, moving = (
        Samples(rows=1, columns=1, temperature=1.0, pixels="mean"),
        Traversal(rows=1, columns=2, image=0, units=None, level=1),
    )
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    for file, message in (
        ("x.jpg", "must end in one of .png, .npz, .gif, .mp4"),
        ("x", "must end in one of"),
        ("x.gif", "this picture does not move; use .png or .npz"),
        ("file/x.png", "cannot be written: "),
        ("folder.png", "cannot be written: "),
    ):
        with pytest.raises(ConfigError, match=message):
            check(tmp_path / file, still)
    check(tmp_path / "new" / "x.GIF", moving)
    assert not list((tmp_path / "new").iterdir())  # the check leaves no file
    with pytest.raises(ConfigError, match="out=.*cannot be written: ffmpeg wrote nothing"):
        save(Drawing(Image.new("RGB", (1, 1)), {}, lambda: iter([Image.new("RGB", (8, 8))] * 2)), Path("/no/x.mp4"))
    with pytest.raises(ConfigError, match="cannot be written"):
        save(Drawing(Image.new("RGB", (1, 1)), {}), tmp_path / "folder.png")
