"""The classifier of a data set, its cache, and the Inception network."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from nelbo.errors import ConfigError, DataError
from nelbo.evaluation import Classifier, Inception
from nelbo.evaluation.classifier import SmallClassifier, train
from nelbo.evaluation.classifier_cache import load_or_train
from nelbo.evaluation.measure import NotApplicable, Subject
from tests.helpers.factors import make_vae
from tests.helpers.gallery import digit_images
from tests.helpers.subjects import make_subject

DATA = {"data": "digits", "protocol": "raw", "data_sha256": "0" * 64, "split_seed": 0, "train_images": 1500}


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    train_images, train_labels, test, labels = digit_images()
    model = make_vae(shape=(1, 8, 8))
    cache = tmp_path_factory.mktemp("cache") / "extractors"
    return make_subject(model, test, train_images, labels=labels, train_labels=train_labels, data=DATA, cache=cache)


def only_file(subject: Subject) -> Path:
    assert subject.cache is not None
    (file,) = subject.cache.glob("*.pt")
    return file


def test_the_classifier_is_trained_once_and_recognises_the_digits(subject: Subject) -> None:
    state = torch.get_rng_state()
    steps: list[int] = []
    first = load_or_train(replace(subject, watch=lambda task, done, total: steps.append(done)))
    assert steps and torch.equal(torch.get_rng_state(), state)
    assert first.accuracy is not None and first.accuracy > 0.9 and not first.warnings
    steps.clear()
    again = load_or_train(replace(subject, watch=lambda task, done, total: steps.append(done)))
    assert not steps and (again.sha256, again.accuracy) == (first.sha256, first.accuracy)
    assert again.net.body[0].weight.equal(first.net.body[0].weight)  # type: ignore[operator]
    assert subject.cache is not None
    assert {file.suffix for file in subject.cache.iterdir()} <= {".pt", ".lock"}


def test_training_twice_gives_the_same_weights_whatever_the_threads(subject: Subject) -> None:
    first = load_or_train(subject)
    torch.manual_seed(7)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        second = train(subject)
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
    assert second.sha256 == first.sha256


@pytest.mark.parametrize("damage", ["cut", "garbage", "weights", "other data"])
def test_an_invalid_cache_file_is_replaced_with_a_warning(
    subject: Subject, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load_or_train(subject)
    monkeypatch.setattr("nelbo.evaluation.classifier_cache.train", lambda subject: expected)
    file = only_file(subject)
    whole = file.read_bytes()
    if damage in ("cut", "garbage"):
        file.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"not a checkpoint")
    else:
        record = torch.load(file, weights_only=True)
        if damage == "weights":
            record["state"]["head.bias"][0] += 1
        else:
            record["facts"]["protocol"] = "threshold"
        torch.save(record, file)
    classifier = load_or_train(subject)
    assert classifier.sha256 == expected.sha256
    (warning,) = classifier.warnings
    assert str(file) in warning and "retrained" in warning and "\n" not in warning
    assert not load_or_train(subject).warnings


def test_other_data_have_another_classifier(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = load_or_train(subject)
    monkeypatch.setattr("nelbo.evaluation.classifier_cache.train", lambda subject: expected)
    assert subject.cache is not None
    for key, value in {"protocol": "threshold", "data_sha256": "1" * 64, "split_seed": 1, "train_images": 9}.items():
        before = set(subject.cache.glob("*.pt"))
        load_or_train(replace(subject, data=DATA | {key: value}))
        (added,) = set(subject.cache.glob("*.pt")) - before
        added.unlink()


def test_the_recipe_identifies_the_weights(subject: Subject) -> None:
    extraction = Classifier().prepare(subject)
    classifier = load_or_train(subject)
    assert extraction.recipe == {
        "extractor": "classifier",
        "extractor_sha256": classifier.sha256,
        "extractor_accuracy": classifier.accuracy,
    }
    x = subject.images[torch.arange(5)]
    features = extraction.function(x)
    assert features.shape == (5, 64) and not features.requires_grad
    torch.testing.assert_close(classifier.net.head(features), classifier.net(x))
    train_features = extraction.function(subject.splits["train"][torch.arange(1500)])
    assert (train_features.mean(dim=0).abs() < 0.3).all() and (train_features.std(dim=0) - 1).abs().max() < 0.3


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 11), (3, 32, 32), (1, 28, 28), (3, 64, 48)])
def test_images_of_any_size(shape: tuple[int, ...]) -> None:
    net = SmallClassifier(shape, 4).eval()
    assert net.features(torch.rand(2, *shape)).shape == (2, 64)


def test_without_labels_the_hint_is_inception() -> None:
    images = torch.rand(6, 1, 8, 8)
    with pytest.raises(NotApplicable, match="extractor=inception"):
        load_or_train(make_subject(make_vae(shape=(1, 8, 8)), images))
    with pytest.raises(NotApplicable, match="8x8"):
        load_or_train(make_subject(make_vae(), torch.rand(6, 1, 6, 5), train_labels=torch.arange(6) % 2))


def test_unlabelled_images_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nelbo.evaluation.classifier.STEPS", 4)
    seen: list[Tensor] = []
    train_images, train_labels, test, labels = digit_images()
    mixed = torch.where(torch.arange(len(train_labels)) % 2 == 0, train_labels, -1)
    subject = make_subject(make_vae(shape=(1, 8, 8)), test, train_images, train_labels=mixed)
    monkeypatch.setattr(
        type(subject.splits["train"]), "__getitem__", lambda self, at: seen.append(at) or self.images[at]
    )
    assert train(subject).accuracy is None  # no test image has a label
    assert seen and all((at % 2 == 0).all() for at in seen)


def test_a_cache_that_cannot_be_written(subject: Subject, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="NELBO_DATA"):
        load_or_train(replace(subject, cache=tmp_path / "file" / "extractors"))


def test_inception_without_weights_or_packages_is_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="extractor.weights=.*no such file") as missing:
        Inception(weights=str(tmp_path / "weights.pth"))
    assert "\n" not in str(missing.value)
    (tmp_path / "weights.pth").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ConfigError, match="needs pip install torch-fidelity") as uninstalled:
        Inception(weights=str(tmp_path / "weights.pth"))
    assert "\n" not in str(uninstalled.value)


def test_weights_of_another_network_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raised before any object other than a tensor is unpickled."""
    monkeypatch.setitem(sys.modules, "torch_fidelity", ModuleType("torch_fidelity"))
    file = tmp_path / "weights.pth"
    torch.save(torch.nn.Linear(2, 2), file)
    with pytest.raises(ConfigError, match="extractor.weights=.*not the weights of torch-fidelity"):
        Inception(weights=str(file)).prepare(make_subject(make_vae(), torch.rand(2, 1, 6, 5)))


def test_inception_features(tmp_path: Path) -> None:
    """With random weights of the right architecture."""
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", exc_type=(ImportError, RuntimeError))
    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patch:
        patch.setattr(fidelity.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        torch.save({}, tmp_path / "empty.pth")
        net = fidelity.FeatureExtractorInceptionV3("random", ["2048"], str(tmp_path / "empty.pth"))
    file = tmp_path / "weights.pth"
    torch.save(net.state_dict(), file)
    grey = torch.rand(2, 1, 8, 8)
    extraction = Inception(weights=str(file)).prepare(make_subject(make_vae(shape=(1, 8, 8)), grey))
    features = extraction.function(grey)
    assert features.shape == (2, 2048) and len(str(extraction.recipe["extractor_sha256"])) == 64
    expected = net((grey * 255).round().byte().repeat(1, 3, 1, 1))[0]
    torch.testing.assert_close(features, expected)
    with pytest.raises(NotApplicable, match="4 channels"):
        Inception(weights=str(file)).prepare(make_subject(make_vae(shape=(4, 8, 8)), torch.rand(2, 4, 8, 8)))
