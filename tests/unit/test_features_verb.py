"""``swiftbolt features`` beside an index and a VIX, whether they are files or symbols."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from support.markets import make_bars
from support.vix import as_bars, make_vix

from swiftbolt import cli
from swiftbolt.actions import CorporateActions
from swiftbolt.features import DEFAULT_SPEC, VIX_SPEC, build_features
from swiftbolt.quality import inspect

SESSIONS = DEFAULT_SPEC.warmup + 20
BARS = make_bars(["AA", "BB"], SESSIONS, seed=1)
VIX, INDEX = make_vix(SESSIONS, seed=1), make_vix(SESSIONS, seed=2)
NO_ACTIONS = CorporateActions.of()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Bars with and without the VIX among them, and the files of both series."""
    BARS.frame.write_parquet(tmp_path / "bars.parquet")
    pl.concat([BARS.frame, as_bars(VIX).frame]).write_parquet(tmp_path / "with_vix.parquet")
    for name, series in (("vix", VIX), ("index", INDEX)):
        pl.DataFrame({"date": series.session_N, "close": series.value_N}).write_parquet(tmp_path / f"{name}.parquet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def features(*arguments: str) -> int:
    return cli.run(["features", "--out", "features.parquet", "--json", *arguments])


@pytest.mark.parametrize(("bars", "vix"), [("bars.parquet", "vix.parquet"), ("with_vix.parquet", "VIX")])
def test_a_vix_adds_its_features_and_is_no_row_itself(bars: str, vix: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert features("--bars", bars, "--market", "index.parquet", "--vix", vix) == 0
    reply = json.loads(capsys.readouterr().out)
    assert reply["spec"] == VIX_SPEC.spec_hash
    found = inspect(BARS, NO_ACTIONS)
    expected = build_features(BARS, NO_ACTIONS, found, market=INDEX, vix=VIX).frame
    assert pl.read_parquet("features.parquet").equals(expected, null_equal=True)


def test_without_a_vix_there_is_none_of_its_features(capsys: pytest.CaptureFixture[str]) -> None:
    assert features("--bars", "bars.parquet", "--market", "AA") == 0
    assert json.loads(capsys.readouterr().out)["features"] == list(DEFAULT_SPEC.names)
    expected = build_features(BARS, NO_ACTIONS, inspect(BARS, NO_ACTIONS), market="AA").frame
    assert pl.read_parquet("features.parquet").equals(expected, null_equal=True)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--vix", "VIX"], "--vix: VIX is not among the symbols of bars.parquet"),
        (["--market", "SPY"], "--market: SPY is not among the symbols of bars.parquet"),
        (["--market", "AA", "--vix", "AA"], "--vix: AA is the market already; choose another"),
        (["--vix", "none.parquet"], "none.parquet: no such file; check the path"),
        (["--vix", "bars.parquet"], "bars.parquet: 2012-01-19 stands there twice"),
    ],
)
def test_a_series_that_cannot_be_meant_is_refused_and_nothing_is_written(
    folder: Path, arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert features("--bars", "bars.parquet", *arguments) == 2
    assert complaint in capsys.readouterr().err
    assert not (folder / "features.parquet").exists()


@pytest.mark.parametrize("out", ["bars.parquet", "index.parquet", "vix.parquet"])
def test_no_file_that_is_read_is_written_over(folder: Path, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / out).read_bytes()
    series = ["--market", "index.parquet", "--vix", "vix.parquet"]
    assert cli.run(["features", "--bars", "bars.parquet", "--out", out, *series]) == 2
    assert f"--out: {out} is the file {out} itself; choose another" in capsys.readouterr().err
    assert (folder / out).read_bytes() == before


def test_bars_that_are_not_there_are_named_though_the_file_to_write_is(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "features.parquet").touch()
    assert features("--bars", "none.parquet") == 2
    assert "none.parquet: no such file" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["bars.parquet", "certify.yaml"])
def test_a_certificate_is_not_written_over_what_it_is_made_from(
    folder: Path, out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "certify.yaml").write_text("seed: 1\n")
    before = (folder / out).read_bytes()
    assert cli.run(["certify", "--bars", "bars.parquet", "--config", "certify.yaml", "--out", out]) == 2
    assert f"--out: {out} is the file {out} itself; choose another" in capsys.readouterr().err
    assert (folder / out).read_bytes() == before
