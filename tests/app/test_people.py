"""Who is drawn for: users by any text, visitors by what they tap."""

import dataclasses
import random

import numpy as np

from ulrec.app.drawing import Made, drawn
from ulrec.app.loading import Shown
from ulrec.app.people import LISTED, Person, Taste, known_ids, listed_users, user_of, visitor_of
from ulrec.app.state import Wish
from ulrec.data.ids import IdMap
from ulrec.errors import DataError

WISH = Wish(guidance=2.0, quality="Fast")
LETTERS = "u01aß\x00<>&\"'/\\%[]()!`~ \n\u202e😀"


def drawn_for(shown: Shown, person: Person, wish: Wish, number: int) -> list[Made]:
    wish = dataclasses.replace(wish, pictures=number)
    return list(drawn(shown, person, wish, waiting=lambda ahead: None))


def test_a_picture_is_tapped_three_times() -> None:
    first = Taste().tapped("a").tapped("b")
    assert first == Taste(liked=("a", "b"))
    second = first.tapped("a")
    assert second == Taste(liked=("b",), disliked=("a",))
    assert second.tapped("a") == Taste(liked=("b",))


def test_ids_from_a_url_are_known_or_dropped() -> None:
    assert known_ids(IdMap(["a", "b"]), ["b", "x", "b", "a", ""]) == ["b", "a"]
    assert known_ids(IdMap([7, -3]), ["7", "07", "-3", "7.0", "x", "9" * 40, "²"]) == [7, -3]
    assert len(known_ids(IdMap([str(n) for n in range(100)]), [str(n) for n in range(100)])) == 40


def test_a_user_has_a_history_and_recommendations(shown: Shown) -> None:
    users = listed_users(shown)
    assert 0 < len(users) <= LISTED
    person = user_of(shown, users[0])
    assert person.is_known and person.liked and person.away is None
    recommended = person.recommended(shown, k=5)
    assert len(recommended) == 5 and not set(recommended) & set(person.liked)


def test_what_is_drawn_is_what_the_pipeline_draws(shown: Shown) -> None:
    person = user_of(shown, listed_users(shown)[1])
    drawn = drawn_for(shown, person, WISH, 2)
    made = shown.fast.generate([person.user_id], per_user=2, guidance=2.0, seed=0)
    for one, latent, media in zip(drawn, made.latents, made.media, strict=True):
        np.testing.assert_allclose(one.latent, latent, atol=1e-4)
        assert np.abs(one.media.astype(int) - media).max() <= 2
    more = drawn_for(shown, person, WISH, 3)
    assert all(again is one for again, one in zip(more, drawn, strict=False))  # they were kept
    made = shown.fast.generate([person.user_id], per_user=3, guidance=2.0, seed=0)
    np.testing.assert_allclose(more[2].latent, made.latents[2], atol=1e-4)
    fine = drawn_for(shown, person, dataclasses.replace(WISH, quality="Fine"), 1)
    assert fine[0] is not drawn[0]


def test_a_surprise_is_the_least_likely_of_six(shown: Shown) -> None:
    person = user_of(shown, listed_users(shown)[2])
    plain = [one.latent for one in drawn_for(shown, person, WISH, 6)]
    wish = dataclasses.replace(WISH, surprising=True)
    (surprise,) = (one.latent for one in drawn_for(shown, person, wish, 1))
    bits = shown.fine.bits(np.stack(plain), num_levels=4)
    np.testing.assert_allclose(surprise, plain[int(bits.argmax())], atol=1e-4)


def test_varied_pictures_are_far_from_one_another(shown: Shown) -> None:
    person = user_of(shown, listed_users(shown)[2])
    plain = np.stack([one.latent for one in drawn_for(shown, person, WISH, 12)])
    varied = drawn_for(shown, person, dataclasses.replace(WISH, varied=True), 2)
    np.testing.assert_allclose(varied[0].latent, plain[0], atol=1e-4)
    gaps = np.linalg.norm((plain[6:] - plain[0]).reshape(6, -1), axis=1)
    np.testing.assert_allclose(varied[1].latent, plain[6 + gaps.argmax()], atol=1e-4)


def test_a_visitors_dislikes_steer(shown: Shown) -> None:
    items = shown.fine.items["item_id"].to_list()
    liking = visitor_of(shown, Taste(liked=tuple(items[:3])))
    torn = visitor_of(shown, Taste(liked=tuple(items[:3]), disliked=tuple(items[3:6])))
    np.testing.assert_array_equal(liking.factor, torn.factor)
    assert liking.away is None and torn.away is not None and torn.away.any()
    drawn = [drawn_for(shown, person, WISH, 1)[0].latent for person in (liking, torn)]
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-5
    assert not set(torn.recommended(shown, k=20)) & set(items[:6])


def test_500_random_inputs_are_people_or_sentences(shown: Shown) -> None:
    source = random.Random(0)
    items, users = shown.media.items.ids.tolist(), listed_users(shown)
    sentences = 0
    for turn in range(500):
        words = ["".join(source.choices(LETTERS, k=source.randrange(12))) for _ in range(6)]
        try:
            person = user_of(shown, source.choice([*words, users[0]]))
            assert person.liked
        except DataError as error:
            assert "there is no user" in str(error)
            sentences += 1
        named = known_ids(shown.media.items, [*words, *source.choices(items, k=4)])
        liked, disliked = named[: len(named) // 2], named[len(named) // 2 :]
        assert len({*liked, *disliked}) == len(named)
        if turn % 25 == 0 and liked:
            visitor = visitor_of(shown, Taste(liked=tuple(liked), disliked=tuple(disliked)))
            assert np.isfinite(visitor.factor).all() and visitor.is_known
            assert visitor.recommended(shown, k=3)
    assert 0 < sentences < 500
