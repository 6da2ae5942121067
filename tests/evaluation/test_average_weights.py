"""Which weights are evaluated: the last ones, or their moving average."""

from dataclasses import replace

import pytest
from small_run import train

from evaluation.evaluate import run_identity
from evaluation.measures import averaged, negative_log_likelihood
from evaluation.prediction_table import PredictionRequest, predict_workdirs
from evaluation.predictions import (
    held_out,
    load_runs,
    predict_part,
    prepare_inference,
)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", ["", "0:2"])
def test_each_scores_as_training_has_recorded(small, tmp_path, seeds):
    config = replace(
        small, model="mlp(widths=(4,))", dropout="none", ema=0.75, seeds=seeds
    )
    summary = train(config, tmp_path)
    recorded = summary["members"][-1] if seeds else summary
    for weights, name in {"last": "test_loss", "average": "test_ema_loss"}.items():
        run = load_runs(str(tmp_path), weights=weights)[-1]
        assert run_identity(run, None)["weights"] == weights
        test = held_out(run, "test", 0)
        found = predict_part(run, prepare_inference(run, "scaling", 1), test)
        loss = negative_log_likelihood(averaged(found), test.labels)
        assert loss == pytest.approx(recorded[name], rel=1e-5)
    assert recorded["test_loss"] != pytest.approx(recorded["test_ema_loss"], rel=1e-3)
    request = PredictionRequest(["scaling"], 1, 2, ["test"], [], "average")
    table = predict_workdirs([str(tmp_path)], request, "", "")
    assert set(table["weights"]) == {"average"}


@pytest.mark.parametrize("weights", ["average", "mean"])
def test_a_run_without_an_average_refuses_it(finished, weights):
    message = f"--weights={weights}: expected last; .* was trained without --ema"
    with pytest.raises(ValueError, match=message):
        load_runs(str(finished[0]), weights=weights)
