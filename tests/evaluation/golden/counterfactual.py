"""Make counterfactual.json: IPS, SNIPS, DR and DM of Open Bandit Pipeline on random logs.

    python tests/evaluation/golden/counterfactual.py

Needs obp 0.5.5, which is no dependency: install it into an environment of its own. The logs are
written beside the values, so that nothing depends on a generator of random numbers.
"""

import json
from pathlib import Path

import numpy as np

NUM_ROWS, NUM_USERS, NUM_ITEMS = 120, 7, 6
CLIP = 1.5


def make(seed: int) -> dict:
    """Return a random log with two policies, and what obp says of it."""
    from obp.ope import (  # here, so that this file can be imported where it is not installed
        DirectMethod,
        DoublyRobust,
        InverseProbabilityWeighting,
        SelfNormalizedInverseProbabilityWeighting,
    )

    rng = np.random.default_rng(seed)
    logging, target = rng.dirichlet(np.ones(NUM_ITEMS), (2, NUM_USERS))
    users = rng.integers(NUM_USERS, size=NUM_ROWS)
    items = np.array([rng.choice(NUM_ITEMS, p=logging[user]) for user in users])
    reward = rng.normal(size=NUM_ROWS)
    predicted = rng.normal(size=(NUM_ROWS, NUM_ITEMS))
    given = {
        "reward": reward,
        "action": items,
        "pscore": logging[users, items],
        "action_dist": target[users][:, :, None],
    }
    model = {"estimated_rewards_by_reg_model": predicted[:, :, None]}
    values = {
        "ips": InverseProbabilityWeighting().estimate_policy_value(**given),
        "ips (clip 1.5)": InverseProbabilityWeighting(lambda_=CLIP).estimate_policy_value(**given),
        "snips": SelfNormalizedInverseProbabilityWeighting().estimate_policy_value(**given),
        "dr": DoublyRobust().estimate_policy_value(**given, **model),
        "dr (clip 1.5)": DoublyRobust(lambda_=CLIP).estimate_policy_value(**given, **model),
        "dm": DirectMethod().estimate_policy_value(action_dist=given["action_dist"], **model),
    }
    arrays = {
        "logging": logging,
        "target": target,
        "users": users,
        "items": items,
        "reward": reward,
        "predicted": predicted,
    }
    return {
        "seed": seed,
        **{name: array.tolist() for name, array in arrays.items()},
        "values": {name: float(value) for name, value in values.items()},
    }


def main() -> None:
    """Write the file beside this one."""
    import obp

    content = {"obp": obp.__version__, "worlds": [make(seed) for seed in (0, 1)]}
    path = Path(__file__).with_name("counterfactual.json")
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
