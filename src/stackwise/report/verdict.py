"""What a comparison says, in a sentence or two, no stronger than its numbers."""

from typing import Any

from stackwise.report.numbers import NONE, interval_text, number_text


def over_tables(record: dict[str, Any]) -> str:
    """Which method to try first, and which others these tables cannot tell from it."""
    first, *others = record["methods"]
    words = (
        f"{first['method']} has the best mean rank, {first['rank']:.2f} over "
        f"{len(record['tables'])} tables"
    )
    reach = interval_text(first, "{:.2f}".format)
    words += "." if reach == NONE else f" (95 % interval {reach})."
    least = record["critical_difference"]
    if least is None or not others:
        return words + " So few tables say little about others."
    alike = [row["method"] for row in others if row["rank"] - first["rank"] < least]
    if not alike:
        return words + " It is apart from all others by more than the critical difference."
    listed = ", ".join(alike[:-1]) + (" and " if len(alike) > 1 else "") + alike[-1]
    return (
        words + f" These tables do not tell it from {listed}: their mean ranks are closer than "
        f"the critical difference of {least:.2f}."
    )


SURE = 0.95
"""Share of draws in which another method is better, from which the test rows contradict."""


def of_study(record: dict[str, Any], plan: dict[str, Any]) -> str:
    """Which method to keep, why, how it stands beside its rivals, and whether test rows agree."""
    ranking, metric, winner = record["ranking"], record["metric"]["name"], record["winner"]
    best = next(row for row in ranking if row["method"] == winner["method"])
    words = f"{best['method']} is the one to keep: test {metric} {number_text(best['mean'])}"
    rival = _rival(ranking, best)
    against = _contradicting(record, best)
    if against is None and rival is not None:
        words += _beside(record, best, rival)
    words += "." + _why(winner)
    if against is not None:
        return words + against
    if rival is None:
        return words
    if 1 in (best.get("seeds"), rival.get("seeds")):  # asked for, or all that a limit left
        return words + " One seed says nothing of luck in training: take the order as a hint."
    chance = rival["winner_better"]
    if chance is not None and 1 - SURE < chance < SURE:
        words += " That is no sure difference: other test rows or seeds could turn the order."
    return words


def _rival(ranking: list[dict[str, Any]], best: dict[str, Any]) -> dict[str, Any] | None:
    """The best baseline; for a baseline, whoever comes next."""
    from stackwise.catalog import cards

    baselines = {name for name, of in cards().items() if of.verb == "baseline"}
    against = {row["slug"] for row in ranking} if best["slug"] in baselines else baselines
    rivals = [r for r in ranking if r["slug"] in against and r["method"] != best["method"]]
    return rivals[0] if rivals else None


def _beside(record: dict[str, Any], best: dict[str, Any], rival: dict[str, Any]) -> str:
    """How much better or worse than the rival, and how sure the test rows are of it."""
    better = (rival["mean"] - best["mean"]) * (1 if record["metric"]["mode"] == "min" else -1)
    share = abs(better) / max(abs(rival["mean"]), 1e-12) * 100
    # of a rival at nearly nothing a share says nothing
    by = f"{share:.1f} %" if share < 1000 else number_text(abs(better))
    apart = "better than" if better >= 0 else "worse than"
    words = f", {by} {apart} {rival['method']} ({number_text(rival['mean'])})"
    chance = rival["winner_better"]
    if chance is not None:
        words += f", and better in {100 * chance:.0f} % of draws of the test rows and seeds"
    return words


def _why(winner: dict[str, Any]) -> str:
    """Why a method was kept that is not the best in validation; nothing, where it is."""
    if winner.get("best_in_validation", winner["method"]) == winner["method"]:
        return ""
    best = f" In validation {winner['best_in_validation']} is"
    if not winner["difference"]:
        return f"{best} no better, and costs more."
    return (
        f"{best} better by {number_text(winner['difference'])}, within one standard error "
        f"({number_text(winner['standard_error'])}), and costs more."
    )


def _contradicting(record: dict[str, Any], best: dict[str, Any]) -> str | None:
    """What to say where another method does better on test rows; None where the best does."""
    first, metric = record["ranking"][0], record["metric"]["name"]
    sign = 1 if record["metric"]["mode"] == "min" else -1
    if first["method"] == best["method"] or sign * (best["mean"] - first["mean"]) <= 0:
        return None
    named = f"{first['method']} does better there ({metric} {number_text(first['mean'])}"
    chance = first["winner_better"]
    if chance is None:
        return f" On the test rows {named})."
    drawn = f"in {100 * (1 - chance):.0f} % of draws of them and of the seeds)"
    if 1 - chance >= SURE:
        return (
            f" The test rows contradict this choice: {named}, {drawn}. The validation rows, which "
            "chose, said otherwise: look at both methods on rows of your own before you decide."
        )
    return (
        f" On the test rows {named}, {drawn}, which is no sure difference: the choice is that of "
        "the validation rows."
    )
