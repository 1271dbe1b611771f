"""What makes a run doubtful is said."""

from loadtest.doubts import doubts
from tests.loadtest.metrics.build import record


def test_a_run_without_doubt_says_nothing() -> None:
    sound = [record(0.5, prompt_tokens=10, completion_tokens=1)]

    assert doubts(sound, cpu_share=0.5, paced=True, longest=100) == []
    assert doubts([], cpu_share=0.5, paced=True) == []


def test_late_sending_is_the_harness_and_matters_where_there_is_a_plan() -> None:
    late = [record(0.5, sent_s=1.0, planned_s=0.9)]

    (found,) = doubts(late, cpu_share=0.0, paced=True)
    assert "sent requests 100 ms late" in found
    assert doubts(late, cpu_share=0.0, paced=False) == []


def test_a_full_core_is_said() -> None:
    (found,) = doubts([record(0.5)], cpu_share=0.97, paced=True)
    assert "took 97% of a core" in found


def test_lengths_that_the_server_counts_otherwise_are_said() -> None:
    found = doubts([record(0.5, prompt_tokens=17), record(0.5, prompt_tokens=10)], cpu_share=0.0, paced=True)
    assert found == ["of 2 prompts the server counts 1 otherwise than the workload has them, such as 17 tokens for 10"]


def test_answers_that_ended_early_are_said_where_they_were_not_to() -> None:
    short = [record(0.5, completion_tokens=3, max_tokens=8)]

    (found,) = doubts(short, cpu_share=0.0, paced=True)
    assert "1 answers were shorter than asked for" in found
    assert doubts(short, cpu_share=0.0, paced=True, exact_output=False) == []


def test_requests_that_no_context_holds_are_said() -> None:
    (found,) = doubts([record(0.5, input_tokens=100), record(0.5)], cpu_share=0.0, paced=True, longest=50)
    assert "1 requests were longer than the model's 50 tokens" in found
