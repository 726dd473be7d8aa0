"""`micro_reasoning`: hand-worked cases, and laws of its oracle over random problems, orders, ways and errors."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rosd_kit.components.tasks.micro_reasoning import MicroReasoning, as_problem
from rosd_kit.components.verifiers.micro_reasoning import MicroReasoningVerifier
from rosd_kit.errors import RecipeError
from rosd_kit.micro.reasoning.manner import manner
from rosd_kit.micro.reasoning.oracle import first_error
from rosd_kit.micro.reasoning.solver import HABITS, Habits, canonical, misconceptions, solve
from rosd_kit.micro.reasoning.text import Answer, Check, Correction, Move, SlowMove, find_answer, read, write
from rosd_kit.micro.reasoning.worlds import SUITES, Journey, draw_journey, world
from rosd_kit.model.micro.words import PATHS, PLACES, TRACKS

WORLD = world("woods")
JOURNEY = Journey(world="woods", people=("Ann", "Bob"), starts=(3, 7), paths=(("oak", "elm"), ("ash",)))
A1, A2 = JOURNEY.places("Ann")[1:]
B1 = JOURNEY.places("Bob")[1]
OAK_TRACKS = " then ".join(WORLD.tracks_of["oak"])
ONE, TWO = WORLD.tracks_of["oak"]
MID = WORLD.tracks[ONE][3]
OAK, ELM, ASH = f"Ann takes oak from 3 to {A1} .", f"Ann takes elm from {A1} to {A2} .", f"From 7 ash brings Bob to {B1} ."
ANSWER = f"Answer : Ann {A2} , Bob {B1} ."
SLOW = f"Ann takes oak : {OAK_TRACKS} , 3 {ONE} {MID} , {MID} {TWO} {A1} ."
CHECK = f"Check Ann : {OAK_TRACKS} , 3 {ONE} {MID} , {MID} {TWO} {A1} , right ."


def other(place: int, by: int = 1) -> int:
    return (place + by) % PLACES


def test_the_question_names_starts_and_paths():
    assert JOURNEY.question() == (
        "In the woods Ann is at 3 , Bob is at 7 . Ann takes oak , elm . Bob takes ash . Where are they ?"
    )
    assert JOURNEY.answer() == f"Ann {A2} , Bob {B1}"
    assert write(canonical(JOURNEY)) == f"{OAK} {ELM} Bob takes ash from 7 to {B1} . {ANSWER}"


@pytest.mark.parametrize(
    "text",
    [
        f"{OAK} {ELM} {ASH} {ANSWER}",
        f"{ASH} {OAK} {ELM} {ANSWER}",
        f"{OAK} {ASH} {ELM} {ANSWER}",
        f"{SLOW} {ELM} {ASH} {ANSWER}",
        f"{OAK} {CHECK} {ASH} {ELM} {ANSWER}",
        f"{OAK} Wait , Ann is at {A1} . {ELM} {ASH} {ANSWER}",
        f"{OAK} {ELM} {ASH} Answer : Bob {B1} , Ann {A2} .",
        f"{OAK} {ELM} {ASH} {ANSWER} Well done .",
        f"{OAK} {ELM} {ASH} {ANSWER}".replace(" .", ".").replace(" ,", ","),
        f"{OAK} {ELM} {ASH} {ANSWER}".removesuffix(" ."),
        # repaired at once, and after moves that followed from the error
        f"Ann takes oak from 3 to {other(A1)} . Wait , Ann is at {A1} . {ELM} {ASH} {ANSWER}",
        f"Ann takes oak from 3 to {other(A1)} . Ann takes elm from {other(A1)} to {WORLD.follow('elm', other(A1))} . {ASH} "
        f"Wait , Ann is at {A2} . {ANSWER}",
    ],
)
def test_right_in_every_order_and_way(text):
    assert first_error(JOURNEY, text).status == "none"


WRONG_ELM = f"Ann takes elm from {A1} to {other(A2)} ."
FALSE_LEG = f"3 {ONE} {other(MID)}"


@pytest.mark.parametrize(
    ("text", "status", "claim", "replacement"),
    [
        (f"{OAK} {ASH} {WRONG_ELM} Answer : Ann {other(A2)} , Bob {B1} .", "error", f"{A1} to {other(A2)}", f"{A1} to {A2}"),
        (f"{ASH} {SLOW.replace(f'3 {ONE} {MID}', FALSE_LEG)} {ELM} {ANSWER}", "error", FALSE_LEG, f"3 {ONE} {MID}"),
        (f"{OAK} {CHECK.replace('right', 'wrong')} {ELM} {ASH} {ANSWER}", "error", "wrong", "right"),
        (f"{OAK} Wait , Ann is at {other(A1)} . {ELM}", "error", f"Wait , Ann is at {other(A1)}", f"Wait , Ann is at {A1}"),
        (f"{ELM} {OAK} {ASH} {ANSWER}", "error", "elm", f"3 oak {A1}"),
        (f"{OAK} {ELM} {ANSWER}", "error", ANSWER.removesuffix(" ."), f"7 ash {B1}"),
        (f"{OAK} {ELM} {ASH} Answer : Ann {other(A2)} , Bob {B1} .", "error", f"Answer : Ann {other(A2)} , Bob {B1}",
         f"Answer : Ann {A2} , Bob {B1}"),
        (f"{OAK} {ELM} {ASH} {ANSWER} Answer : Ann {other(A2)} , Bob {B1} .", "error", f"Answer : Ann {other(A2)} , Bob {B1}",
         f"Answer : Ann {A2} , Bob {B1}"),
        (f"{OAK} Hello there . {ELM} {ASH} {ANSWER}", "unparsable", "Hello there", f"{A1} elm {A2}"),
        (f"{OAK} Cid takes elm from 1 to 2 . {ELM}", "unparsable", "Cid takes elm from 1 to 2", f"{A1} elm {A2}"),
        (f"{OAK} Ann takes elm from", "incomplete", "", f"{A1} elm {A2}"),
        ("", "incomplete", "", f"3 oak {A1}"),
        # only the open one of two errors counts, though it comes second
        (f"Ann takes oak from 3 to {other(A1)} . From 7 ash brings Bob to {other(B1)} . Wait , Ann is at {A1} . {ELM} {ANSWER}",
         "error", f"7 ash brings Bob to {other(B1)}", f"7 ash brings Bob to {B1}"),
    ],
)  # fmt: skip
def test_the_first_error_that_stays(text, status, claim, replacement):
    error = first_error(JOURNEY, text)
    assert (error.status, text[error.start : error.end], error.replacement) == (status, claim, replacement)
    assert error.idea.split(" . ")[0] == replacement
    assert error.sentence_start <= error.start


problems = st.tuples(st.sampled_from(list(SUITES)), st.integers(0, 10**9))
ways = st.builds(
    Habits,
    slow=st.floats(0, 1),
    check=st.floats(0, 1),
    brings=st.floats(0, 1),
    stay=st.floats(0, 1),
    shaky=st.just(0.0),
    slip=st.just(0.0),
)


def drawn(case: tuple[str, int]) -> tuple[Journey, random.Random]:
    rng = random.Random(case[1])
    return draw_journey(rng, *SUITES[case[0]]), rng


@settings(max_examples=80)
@given(problems, ways)
def test_every_right_solution_is_accepted_and_read_back_in_every_order_and_way(case, habits):
    journey, rng = drawn(case)
    statements = solve(journey, rng, habits)
    text = write(statements)
    assert [sentence.statement for sentence in read(text)] == statements
    assert first_error(journey, text).status == "none"
    assert find_answer(text) == journey.answer()


@settings(max_examples=80)
@given(problems, ways, st.randoms(use_true_random=False))
def test_exactly_the_planted_error_is_found_whatever_follows_from_it(case, habits, at):
    journey, rng = drawn(case)
    statements = solve(journey, rng, replace(habits, check=0.0))
    number = at.choice([i for i, one in enumerate(statements) if isinstance(one, Move | SlowMove)])
    wrong = statements[number]
    before = write(statements[:number])
    place = at.randrange(1, PLACES)
    if isinstance(wrong, Move):
        planted: Move | SlowMove = replace(wrong, end=other(wrong.end, place))
        takes = f"{wrong.start} to {planted.end}"
        brings = f"{wrong.start} {wrong.path} brings {wrong.who} to {planted.end}"
        claim = takes if wrong.wording == "takes" else brings
    else:
        leg = replace(wrong.legs[1], end=other(wrong.legs[1].end, place))
        planted = replace(wrong, legs=(wrong.legs[0], leg))
        claim = str(leg)
    shifted = {wrong.who: planted.end if isinstance(planted, Move) else planted.legs[1].end}
    rest = []
    for one in statements[number + 1 :]:  # the same moves, from where the error led
        if isinstance(one, Answer):
            rest.append(replace(one, places=tuple((who, shifted.get(who, to)) for who, to in one.places)))
        elif one.who != wrong.who:
            rest.append(one)
        else:
            start = shifted[one.who]
            end = world(journey.world).follow(one.path, start)
            rest.append(Move(who=one.who, path=one.path, start=start, end=end))
            shifted[one.who] = end
    text = write([*statements[:number], planted, *rest])
    error = first_error(journey, text)
    assert error.status == "error"
    assert text[error.start : error.end] == claim
    assert error.start >= len(before)
    mended = [*statements[:number], planted, *rest[:-1], Correction(who=wrong.who, place=journey.places(wrong.who)[-1])]
    final = Answer(places=tuple((who, journey.places(who)[-1]) for who in journey.people))
    assert first_error(journey, write([*mended, final])).status == "none"


@settings(max_examples=60)
@given(problems, st.text(alphabet="ABC .,:0123456789abcdeknorstuw", max_size=80), st.integers(0, 200))
def test_any_text_gets_an_answer_within_the_text(case, noise, cut):
    journey, rng = drawn(case)
    text = write(solve(journey, rng, HABITS[journey.world]))[:cut] + noise
    error = first_error(journey, text)
    assert error.status in ("none", "error", "incomplete", "unparsable")
    if error.status != "none":
        assert 0 <= error.sentence_start <= error.start <= error.end <= len(text)


@settings(max_examples=60)
@given(problems)
def test_a_wrong_answer_of_a_real_solver_always_has_a_first_error(case):
    journey, rng = drawn(case)
    text = write(solve(journey, rng, HABITS[journey.world]))
    assert find_answer(text) == journey.answer() or first_error(journey, text).status == "error"


def test_worlds_share_no_word_and_their_tables_are_independent():
    words = [word for name in PATHS for word in (*TRACKS[name], *PATHS[name])]
    assert len(set(words)) == len(words) == 36
    for name in PATHS:
        for table in world(name).tracks.values():
            assert sorted(table) == list(range(PLACES))
        assert len(set(world(name).tracks_of.values())) == 6
    tables = [table for name in PATHS for table in world(name).tracks.values()]
    agreements = [sum(a == b for a, b in zip(one, two, strict=True)) for i, one in enumerate(tables) for two in tables[:i]]
    assert max(agreements) < 6


def test_in_the_mines_only_the_slow_way_is_reliable():
    for name, share in (("woods", 0.34), ("mines", 0.75)):
        assert len(misconceptions(name)) / (6 * PLACES) == pytest.approx(share, abs=0.12)
    journey, rng = drawn(("mines", 5))
    fast, slow = (replace(HABITS["mines"], slow=share, check=0.0) for share in (0.0, 1.0))

    def rate(habits: Habits) -> float:
        return sum(find_answer(write(solve(journey, rng, habits))) == journey.answer() for _ in range(200)) / 200

    assert rate(slow) > 0.4 > 0.1 > rate(fast)


def test_the_verifier_takes_places_in_any_order_and_the_last_answer():
    problem, verify = as_problem(JOURNEY, suite="woods", id="p"), MicroReasoningVerifier().verify
    assert verify(problem, f"Answer : Bob {B1} , Ann {A2} .").success
    assert not verify(problem, f"{ANSWER} Answer : Ann {other(A2)} , Bob {B1} .").success
    assert verify(problem, "no idea").status == "unparsable"
    assert verify(problem, f"Answer : Ann {A2} .").feedback == f"Answer Ann {A2} is Wrong"


def test_a_training_set_is_gone_through_once_an_epoch_in_a_new_order():
    task = MicroReasoning(MicroReasoning.Config(train_problems=12))
    epochs = [[p.id for step in range(3) for p in task.train_batch(step=3 * e + step, count=4, seed=0)] for e in range(3)]
    assert all(len(set(ids)) == 12 for ids in epochs)
    assert len({tuple(sorted(ids)) for ids in epochs}) == 1 and len({tuple(ids) for ids in epochs}) == 3
    assert task.train_batch(step=7, count=4, seed=0) == task.train_batch(step=7, count=4, seed=0)
    with pytest.raises(RecipeError, match=r"task\.train_problems: 12 problems cannot fill a step of problems_per_step=13"):
        task.train_batch(step=0, count=13, seed=0)
    unlimited = {p.id for step in range(5) for p in MicroReasoning().train_batch(step=step, count=4, seed=0)}
    assert len(unlimited) == 20


def test_suites_begin_with_the_trained_one_and_its_longer_problems_have_more_moves():
    suites = MicroReasoning().suites(count=6, seed=1)
    assert list(suites) == ["woods", "woods_long", "docks", "mines", "gates"]
    moves = {name: [sum(map(len, p.meta["journey"].paths)) for p in problems] for name, problems in suites.items()}
    assert set(moves["woods"]) <= {5, 6} and set(moves["woods_long"]) <= {7, 8}
    assert MicroReasoning(MicroReasoning.Config(train="docks")).in_domain() == {"docks"}


def test_a_flawless_solver_knows_no_misconception():
    journey, rng = drawn(("mines", 1))
    statements = solve(journey, rng, Habits(shaky=0.0, slip=0.0))
    assert first_error(journey, write(statements)).status == "none"
    assert all(one.verdict == "right" for one in statements if isinstance(one, Check))


def test_the_manner_of_a_solution():
    text = f"{SLOW} {ASH} {CHECK.replace('right', 'wrong')} Wait , Ann is at {A1} . {ELM} {ANSWER}"
    assert manner(f"{OAK} {CHECK} {ASH} {ELM} {ANSWER}") == {
        "slow": 0.0, "checked": 1 / 3, "brings": 1 / 3, "switches": 1.0, "mended": 0.0,
    }  # fmt: skip
    assert manner(text)["slow"] == 1 / 3 and manner(text)["mended"] == 1.0
    assert manner("nothing of the kind") == {}
    assert "checked" not in manner(SLOW)  # there was no move by heart
