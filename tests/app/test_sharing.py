"""The queue lets so many draw at a time; what was drawn is kept up to a size."""

import threading
import time

import pytest

from ulrec.app.sharing import Busy, Kept, Queue


def test_no_more_than_the_slots_draw_at_a_time_and_all_get_their_turn() -> None:
    queue, lock = Queue(2), threading.Lock()
    inside, most, served = 0, 0, 0

    def visit() -> None:
        nonlocal inside, most, served
        with queue.turn(lambda ahead: None):
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.02)
            with lock:
                inside -= 1
                served += 1

    visitors = [threading.Thread(target=visit) for _ in range(10)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join(20)
    assert served == 10 and most == 2


def test_who_waits_is_told_and_patience_ends() -> None:
    queue = Queue(1, patience_s=1.5)
    told: list[int] = []
    with queue.turn(lambda ahead: None), pytest.raises(Busy), queue.turn(told.append):
        pytest.fail("two had one slot")
    assert told == [0]  # nobody else is in the line
    with queue.turn(lambda ahead: None):  # the slot is free again
        pass


def test_who_moves_up_stays_patient() -> None:
    queue, served = Queue(1, patience_s=1.5), []

    def visit(number: int) -> None:
        with queue.turn(lambda ahead: None):
            time.sleep(1.2)
            served.append(number)

    visitors = [threading.Thread(target=visit, args=(number,)) for number in range(4)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join(20)
    assert sorted(served) == [0, 1, 2, 3]  # the last one waits for 3.6 s


def test_a_line_that_is_too_long_is_refused_at_once() -> None:
    queue = Queue(1, longest=1)
    second = threading.Thread(target=lambda: queue.turn(lambda ahead: None).__enter__())
    with queue.turn(lambda ahead: None):
        second.start()
        time.sleep(0.2)
        with pytest.raises(Busy), queue.turn(lambda ahead: pytest.fail("it waited")):
            pytest.fail("the line was too long")
    second.join(20)


def test_who_comes_first_is_served_first() -> None:
    queue, order = Queue(1), []
    visitors = []

    def visit(number: int) -> None:
        with queue.turn(lambda ahead: None):
            order.append(number)

    with queue.turn(lambda ahead: None):
        for number in range(6):
            visitors.append(threading.Thread(target=visit, args=(number,)))
            visitors[-1].start()
            time.sleep(0.02)
    for visitor in visitors:
        visitor.join(20)
    assert order == list(range(6))


def test_who_goes_leaves_the_line() -> None:
    queue = Queue(1)
    with queue.turn(lambda ahead: None), pytest.raises(KeyboardInterrupt), queue.turn(_go_away):
        pytest.fail("two had one slot")
    with queue.turn(_go_away):
        pass


def _go_away(ahead: int) -> None:
    raise KeyboardInterrupt


def test_a_failure_gives_the_slot_back() -> None:
    queue = Queue(1, patience_s=0.3)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), queue.turn(lambda ahead: None):
            raise ZeroDivisionError


def test_the_longest_unasked_makes_room() -> None:
    kept = Kept(2)
    kept.put("a", 1)
    kept.put("b", 2)
    assert kept.get("a") == 1
    kept.put("c", 3)
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == (1, None, 3)
