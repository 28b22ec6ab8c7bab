"""Arms are known by what they are: presets' arms play their roles under any name, and impostors play none."""

import pytest

from mechdistill.config import ExperimentConfig, experiment, load_experiment
from mechdistill.stats import candidates, cast
from mechdistill.stats.claims import CLAIMS
from tests.helpers import merged


def casts(config: ExperimentConfig) -> dict[str, dict[str, str]]:
    among = candidates(config)
    return {claim.name: cast(claim.roles, claim.lead, [one for one in among if claim.takes(one)]) for claim in CLAIMS}


def test_the_whole_study_has_an_arm_for_every_role() -> None:
    found = casts(load_experiment(None, preset_name="paper-full"))
    for claim in CLAIMS:
        if claim.world != "supports":
            assert set(found[claim.name]) == {role.name for role in claim.roles}, claim.name
    assert found["C3"] == {"dpt-90": "dpt-90", "spt": "spt"}
    assert found["C5"]["spt"] == "scarce-spt"
    assert found["C6"]["spt-2x"] == "scarce-spt-2x"
    assert found["C11"] == {
        "dpt-90, same data": "trunk-dpt-90-at-4000000",
        "dpt-90, same data, at half": "trunk-dpt-90-at-2000000",
        "spt": "trunk-spt-at-4000000",
        "spt at half": "trunk-spt-at-2000000",
    }


def test_names_do_not_matter() -> None:
    config = load_experiment(None, preset_name="paper")
    renamed = config.model_copy(update={"arms": {f"arm-{i}": arm for i, arm in enumerate(config.arms.values())}})
    names = dict(zip(config.arms, renamed.arms, strict=True))
    for claim, found in casts(config).items():
        assert casts(renamed)[claim] == {role: names[arm] for role, arm in found.items()}


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 2.0},
        {"alpha": 0.8},
        {"label_smoothing": 0.1},
        {"divergence": "total-variation"},
        {"training": {"tokens": 2_000_000}},  # not beside an spt of as many
        {"model": {"d_model": 64}},
    ],
)
def test_an_arm_that_only_bears_the_name_plays_no_role(change: dict[str, object]) -> None:
    config = load_experiment(None, preset_name="quickstart")
    data = merged(config.model_dump(mode="json"), {"arms": {"dpt-90": change}})
    assert "spt" in casts(config)["C3"]
    assert set(casts(experiment(data))["C3"]) < {"dpt-90", "spt"}, "it has no twin, or is not the arm"


def test_a_teacher_that_all_seeds_share_is_none_of_the_claims() -> None:
    data = load_experiment(None, preset_name="quickstart").model_dump(mode="json")
    shared = merged(data, {"teachers": {"half-formed": {"seed": 3}}})
    assert casts(experiment(shared))["C3"] == {}


@pytest.mark.parametrize(
    ("teacher", "change", "role"),
    [
        ("tilted", {"of": "oracle"}, "dpt-90, late"),  # not tuned from the late teacher
        ("tilted", {"below": None}, "dpt-90, tilted"),  # rewarded where pass@k asks
        ("permuted", {"of": "late"}, "dpt-90, permuted oracle"),
        ("top-1", {"tail": "bucket"}, "dpt-90, top 1"),
        ("late", {"training": {"tokens": 500_000}, "seed": 7}, "dpt-90, late"),  # one for all seeds
    ],
)
def test_a_teacher_that_is_not_what_the_role_says_plays_none(
    teacher: str, change: dict[str, object], role: str
) -> None:
    config = load_experiment(None, preset_name="scarce")
    assert any(role in found for found in casts(config).values())
    changed = experiment(merged(config.model_dump(mode="json"), {"teachers": {teacher: change}}))
    assert not any(role in found for found in casts(changed).values())
