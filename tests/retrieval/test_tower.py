"""The network of the tower: training, and its forward pass in numpy."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import (
    DAY,
    N_ITEMS,
    asks,
    lists_of,
    log_of,
    logs,
    random_vectors,
    state_of,
)

from recsys.errors import ArtifactError
from recsys.retrieval import tower_network
from recsys.retrieval.tower import Tower

quick = settings(max_examples=20, deadline=None)


@quick
@given(logs(), st.integers(1, 6))
def test_windows_predict_every_event_but_the_first_once(log, length):
    first, ends = tower_network.windows(log, length)
    assert (ends - first <= length + 1).all()
    assert (log.user[first] == log.user[ends - 1]).all()
    predicted = sorted(row for start, end in zip(first, ends, strict=True) for row in range(start + 1, end))
    assert predicted == [row for row in range(len(log)) if row not in log.offsets]


def test_the_query_in_numpy_is_that_of_the_network():
    torch = pytest.importorskip("torch")
    torch.manual_seed(3)
    net = tower_network._net(random_vectors(N_ITEMS), 8, 5, 0.5).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    weights = tower_network._arrays(net, np.arange(N_ITEMS))
    histories = asks([[0, 1, 2, 3, 4, 5, 0], [2], [], [5, 5]])
    found = tower_network.encode_histories(weights, histories) @ weights["items"].T
    everything = torch.arange(N_ITEMS)
    for user, items in enumerate([[2, 3, 4, 5, 0], [2], None, [5, 5]]):
        if items is None:
            assert not found[user].any()
            continue
        with torch.inference_mode():
            logits = (net(torch.tensor([items]))[0, -1] @ net.rows(everything).T + net.bias).numpy()
        np.testing.assert_allclose(found[user], logits - logits.mean(), rtol=1e-4, atol=1e-5)


def test_the_tower_learns_what_follows_what_and_twice_the_same():
    rng = np.random.default_rng(0)
    starts = rng.integers(N_ITEMS, size=80)
    rows = [(user, (start + step) % N_ITEMS, step * DAY) for user, start in enumerate(starts) for step in range(8)]
    state = state_of(log_of(rows), N_ITEMS)
    fitted, again = (Tower(dropout=0.1, epochs=100).fit(state) for _ in range(2))
    first = lists_of(fitted.ask(asks([[(i - 1) % N_ITEMS, i] for i in range(N_ITEMS)])).top(1))
    assert first == [[(i + 1) % N_ITEMS] for i in range(N_ITEMS)]
    assert all(array.tobytes() == again.arrays()[name].tobytes() for name, array in fitted.arrays().items())


def test_only_targets_are_predicted():
    log = log_of([(user, item, item * DAY) for user in range(30) for item in (0, 1, 2)])
    only = replace(log, target=log.item == 2)
    hits = Tower(epochs=100).fit(state_of(only, 3)).ask(asks([[0]])).top(3)
    assert lists_of(hits)[0][0] == 2
    assert lists_of(Tower(epochs=100).fit(state_of(log, 3)).ask(asks([[0]])).top(3))[0][0] == 1


def test_the_tower_takes_no_more_steps_than_it_may(monkeypatch, caplog):
    state = state_of(log_of([(user, item, item) for user in range(600) for item in (0, 1)]), N_ITEMS)
    monkeypatch.setattr(tower_network, "MAX_STEPS", 4)  # an epoch has three batches
    with caplog.at_level("INFO", logger="recsys"):
        Tower(width=8).fit(state)
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == [
        "tower: epoch 1 of 2",
        "tower: epoch 2 of 2",
    ]


def test_weights_without_the_projection_of_texts_cannot_move():
    weights = {"items": np.zeros((2, 3), np.float32), "position": np.zeros((1, 2), np.float32)}
    with pytest.raises(ArtifactError, match=r"kept no projection of texts \(they hold items, position\): train again"):
        tower_network.append_items(weights, np.zeros((3, 4), np.float32))
