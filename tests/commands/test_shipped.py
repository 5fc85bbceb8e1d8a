"""The networks that come with the package: what their cards promise, on real radar."""

import json

import numpy as np
import pytest
import xarray as xr
from as_user import ROOT, nowcast

from nowcast.inference import forecast, load
from nowcast.models.checkpoint import SHIPPED, shipped
from nowcast.radar.units import ZRRelation

NAME = "convgru-5min"
BASELINES = ("persistence", "optical flow", "optical flow with inflow")


def test_it_comes_with_the_package():
    assert NAME in shipped()


@pytest.mark.parametrize("name", shipped())
def test_it_is_small_has_a_card_and_loads_by_its_name(name):
    assert (SHIPPED / f"{name}.safetensors").stat().st_size <= 8e6
    card = (SHIPPED / f"{name}.md").read_text(encoding="utf-8")
    for word in ("CC BY 4.0", "Finnish Meteorological Institute", "KNMI", "Limits", "persistence"):
        assert word in card
    network = load(name)
    assert network.description.step_minutes == 5
    assert not network.network.training


def scored(shared, folder, event, *more, spacing=4, clip_length=25):
    """Scores per lead time of the network and of methods without training, by name."""
    path = shared / f"real-radar/events/{event}.nc"
    done = nowcast(
        "prepare_data", "events", f"--test=[{path}]", f"--grid_spacing_km={spacing}",
        f"--clip_length={clip_length}", "--workers=1", "--out", folder / "event.h5",
    )  # fmt: skip
    assert done.status == 0, done.err
    done = nowcast(
        "evaluate", "--config", ROOT / "configs/convgru_5min.yaml", "--animations=0",
        "--data.workers=0", f"--data.store={folder / 'event.h5'}", "--out", folder / "scores",
        *more,
    )  # fmt: skip
    assert done.status == 0, done.err
    methods = json.loads((folder / "scores/scores.json").read_text())["methods"]
    assert list(methods) == [*BASELINES, "ConvGRU"]
    wanted = ("balanced_mse", "balanced_mae", "csi")
    return {
        name: {score: np.array(found["per_lead"][score], float) for score in wanted}
        for name, found in methods.items()
    }


def better_at(leads, found, than):
    """Whether B-MSE, B-MAE and CSI at 0.5 and 2 mm/h are better at each of the lead times."""
    return (
        (found["balanced_mse"] < than["balanced_mse"])[leads].all()
        and (found["balanced_mae"] < than["balanced_mae"])[leads].all()
        and (found["csi"] > than["csi"])[leads, :2].all()
    )


def total(scores):
    return (scores["balanced_mse"] + scores["balanced_mae"]).mean()


FROM_30_MINUTES = slice(5, None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spacing", "expected"),
    [(4, (1313.9, 1028.9, 871.9, 834.8)), (2, (1414.4, 1388.2, 1025.7, 992.3))],
)
def test_on_the_event_that_training_never_saw(shared, tmp_path, spacing, expected):
    """The card's figures; better than persistence from 30 minutes on, and than optical flow."""
    scores = scored(shared, tmp_path, "fmi_20160928", spacing=spacing)
    ours = scores["ConvGRU"]
    assert better_at(FROM_30_MINUTES, ours, scores["persistence"])
    for name, value in zip((*BASELINES, "ConvGRU"), expected, strict=True):
        assert total(scores[name]) == pytest.approx(value, rel=2e-3)
    assert total(ours) < total(scores["optical flow with inflow"]) < total(scores["optical flow"])


@pytest.mark.slow
def test_in_another_country_another_season_and_another_kind_of_composite(shared, tmp_path):
    """Column maxima of Europe in November; 13 frames leave 8 lead times."""
    scores = scored(
        shared, tmp_path, "opera_cirrus_20241126_crop", "--data.lead_times=8", clip_length=13
    )
    ours = scores["ConvGRU"]
    assert better_at(FROM_30_MINUTES, ours, scores["persistence"])
    assert total(ours) < total(scores["optical flow with inflow"])


def test_it_forecasts_a_whole_composite(shared):
    """16:00 UTC at 4 km, which is no multiple of its stride; mm/h in, mm/h out."""
    path = shared / "real-radar/events/fmi_20160928.nc"
    with xr.open_dataset(path, engine="h5netcdf") as event:
        relation = ZRRelation(event.attrs["zr_a"], event.attrs["zr_b"])
        frames = event["reflectivity"][11:16, ::4, ::4].load()
        truth = relation.dbz_to_rain_rate(event["reflectivity"][21, ::4, ::4].to_numpy())
    found = forecast(load(NAME), frames, 6, relation=relation, coverage="stays")["rain_rate"]
    assert found.shape == (6, 307, 190)
    last = relation.dbz_to_rain_rate(frames[-1].to_numpy())
    both = np.isfinite(truth) & np.isfinite(last)
    error, persistence = (np.abs(x - truth)[both].mean() for x in (found[-1].to_numpy(), last))
    assert error < 0.8 * persistence
