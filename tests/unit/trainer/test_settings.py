"""Settings: read from TOML, bounded, changed from the command line."""

from pathlib import Path

import pytest

from pipeline.common.errors import UserError
from trainer.settings import MODELS, change, face_size, known_models, parse_change, read_settings

SMALL = (MODELS / "small.toml").read_text()


def test_settings_of_known_models_are_valid() -> None:
    assert known_models() == ["baseline", "small", "tuned"]
    for name in known_models():
        settings = read_settings(MODELS / f"{name}.toml")
        assert settings.name == name
        first = (MODELS / f"{name}.toml").read_text().splitlines()[0]
        assert first.startswith("# python -m trainer ") and f"--model {name} " in first


def refusal(path: Path, text: str) -> str:
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_settings(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("batch = 128", "batch = 0", "fitting.batch: expected `int` >= 1"),
        ("batch = 128", 'batch = "many"', "fitting.batch: expected `int`, got `str`"),
        ("batch = 128", "bach = 128", "fitting: object contains unknown field `bach`"),
        ('kind = "residual"', 'kind = "vgg"', "network.kind: invalid enum value 'vgg'"),
        ("dropout = 0.4", "dropout = 1.0", "network.dropout: expected `float` < 1.0"),
        ('outputs = ["fer2013", "consensus"]', "outputs = []", "network.outputs"),
        ('outputs = ["fer2013", "consensus"]', 'outputs = ["fer2013", "fer2013"]', "network.outputs"),
        (
            "sizes = [[0.0, 32]",
            "sizes = [[0.1, 32]",
            "fitting.sizes: expected pairs that begin at 0.0 and rise",
        ),
        ("[network]", "[network", "cannot be read"),
        ('kind = "residual"', 'kind = "baseline"', "for the baseline"),
        ("[0.65, 48]]", "[0.65, 4]]", "fitting.sizes: expected a pixel left after all stages, found 4"),
        ("coarse_px = [24, 44]", "coarse_px = [44, 24]", "degradation.coarse_px: expected two that rise"),
        ("erase_px = [8, 19]", "erase_px = [8, 50]", "augmentation.erase_px: expected two that rise to 48"),
        ('optimizer = "sgd"', 'optimizer = "adam"', "fitting.weight_decay: expected 0 with adam"),
        ('schedule = "cosine"', 'schedule = "constant"', "fitting.warmup_steps: expected 0"),
    ],
)
def test_invalid_settings_are_refused(old: str, new: str, text: str, tmp_path: Path) -> None:
    assert old in SMALL
    assert text in refusal(tmp_path / "mine.toml", SMALL.replace(old, new))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.toml: cannot be read"):
        read_settings(tmp_path / "none.toml")


def test_changes_are_checked() -> None:
    settings = read_settings(MODELS / "small.toml")
    changed = change(settings, {"fitting.epochs": 3, "seed": 7})
    assert (changed.fitting.epochs, changed.seed, changed.network) == (3, 7, settings.network)
    with pytest.raises(UserError, match=r"fitting\.epochs: expected `int` >= 1"):
        change(settings, {"fitting.epochs": 0})


def test_sizes_follow_the_epochs() -> None:
    fitting = change(
        read_settings(MODELS / "small.toml"),
        {"fitting.epochs": 10, "fitting.sizes": [[0.0, 32], [0.3, 40], [0.8, 48]]},
    ).fitting
    assert [face_size(fitting, number) for number in range(1, 11)] == [32] * 3 + [40] * 5 + [48] * 2


def test_set_takes_any_key() -> None:
    assert parse_change("fitting.sizes=[[0.0, 48]]") == ("fitting.sizes", [[0.0, 48]])
    assert parse_change('precision="float32"') == ("precision", "float32")
    for wrong in ("fitting.epochs", "=3", "fitting.epochs=three"):
        with pytest.raises(UserError, match="--set "):
            parse_change(wrong)
    with pytest.raises(UserError, match=r"fitting\.epoch: no such setting"):
        change(read_settings(MODELS / "small.toml"), {"fitting.epoch": 3})
