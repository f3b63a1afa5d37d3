"""Who asks while a question is under way gets its answer too."""

from actors.logic.supervision.inquiry import Inquiry


def test_one_question_answers_all_who_ask_meanwhile_each_in_the_round_asked_last() -> None:
    inquiry = Inquiry()
    assert inquiry.ask("launcher", 1)
    inquiry.expect(["pipeline", "clock"])
    assert not inquiry.ask("visitor", 7)
    assert not inquiry.ask("launcher", 2)
    inquiry.on_answer("pipeline", inquiry.number)
    assert not inquiry.complete
    inquiry.on_answer("clock", inquiry.number)
    assert inquiry.complete
    assert inquiry.end() == [("launcher", 2), ("visitor", 7)]
    assert inquiry.end() == []


def test_an_answer_to_an_earlier_question_completes_nothing() -> None:
    inquiry = Inquiry()
    inquiry.ask("launcher", 1)
    inquiry.expect(["pipeline"])
    inquiry.end()  # patience was over
    inquiry.ask("launcher", 2)
    inquiry.expect(["pipeline"])
    inquiry.on_answer("pipeline", inquiry.number - 1)
    assert not inquiry.complete


def test_who_has_nobody_to_ask_has_the_answer() -> None:
    inquiry = Inquiry()
    inquiry.ask("launcher", 1)
    inquiry.expect([])
    assert inquiry.complete
