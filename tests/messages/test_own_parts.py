"""Parts of a user's own: errors in their classes are one line."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.forks import forked
from tests.helpers.interrupted import SMALL

OWN_NETS = """
from torch import nn
from nelbo.nets import Net

class WithoutArguments(Net):
    def __init__(self, in_shape):
        super().__init__()

class WithoutCall(Net):
    def __init__(self, in_shape):
        self.layer = nn.Linear(4, 4)

class NoNet(nn.Module):
    def __init__(self, in_shape):
        super().__init__()
"""

CALL_OF_NET = "super().__init__(in_shape, out_shape, layers)"


def test_an_own_net_that_calls_its_base_class_wrongly_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "ownnets.py").write_text(OWN_NETS)
    start = (
        f"import runpy, sys\nsys.path.insert(0, {str(tmp_path)!r})\nrunpy.run_path('train.py', run_name='__main__')\n"
    )
    (tmp_path / "start.py").write_text(start)
    for name, hint in {
        "WithoutArguments": f"its __init__ must pass in_shape, out_shape, layers to that of Net: {CALL_OF_NET}",
        "WithoutCall": "its __init__ must call super().__init__(...) before it sets attributes",
        "NoNet": f"has no out_shape: derive it from nelbo.nets.Net and call {CALL_OF_NET}",
    }.items():
        net = f"+model.encoder={{_target_:ownnets.{name},_partial_:true}}"
        arguments = (*SMALL, "~model.encoder", net, "allow_targets=[ownnets.]", f"hydra.run.dir={tmp_path / name}")
        done = forked(str(tmp_path / "start.py"), *arguments)
        assert done.returncode == 2 and done.stderr == f"error: model.encoder={name}: {hint}\n", done.stderr


def test_a_likelihood_in_place_of_the_groups_option_is_trained(tmp_path: Path) -> None:
    own = ("~likelihood", "+model.likelihood={_target_:nelbo.heads.LearnedGaussian,_partial_:true}")
    done = forked("train.py", *SMALL, "trainer=smoke", *own, f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
