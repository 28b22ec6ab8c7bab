"""What the presets of the study promise each other."""

import numpy as np

from mechdistill.config import load_experiment
from mechdistill.sandbox import Sandbox
from mechdistill.teachers import Oracle, Tilted


def test_an_arm_that_two_presets_have_is_one_arm() -> None:
    """Of one name at least: the teacher of that name is another one in the world of routes."""
    full, routes = load_experiment(preset_name="paper-full"), load_experiment(preset_name="routes")
    shared = set(full.arms) & set(routes.arms)
    assert len(shared) >= 11
    assert {n: full.arms[n] for n in shared} == {n: routes.arms[n] for n in shared}


def test_the_rewards_of_tilted_teachers_do_not_meet_decisions() -> None:
    """Those of pass@k are at rows of the upper half by entropy; a reward there would be what is measured."""
    for preset in ("paper-full", "scarce"):
        config = load_experiment(preset_name=preset)
        found = [(arm, t) for arm in config.arms for t in config.arm_teachers(arm).values() if t.kind == "tilted"]
        assert found
        for arm, teacher in found:
            world = Sandbox(config.arm_sandbox(arm))
            reward = Tilted(Oracle(world), world, **teacher.settings).reward
            ordinary = world.rate < 1
            upper = ordinary & (world.row_entropy > np.median(world.row_entropy[ordinary]))
            assert not reward[upper].any()
            assert reward[~upper].any()
