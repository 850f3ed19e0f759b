"""Options with a value per updatable component, or per component type, in one text."""

from nnet.errors import NgtrainError


def parse_reals(option: str, text: str, count: int) -> list[float]:
    """Parse exactly `count` numbers, separated by colons.

    Raises:
        NgtrainError: they are not; names the option.
    """
    try:
        values = [float(part) for part in text.split(":")]
    except ValueError:
        values = []
    if len(values) != count:
        raise NgtrainError(
            f"expected {option} to be a colon-separated list of {count} numbers, one per updatable "
            f"component, instead got {text!r}"
        )
    return values


def parse_integers(option: str, text: str) -> list[int]:
    """Parse integers, separated by colons; none where the text is empty.

    Raises:
        NgtrainError: they are not; names the option.
    """
    try:
        return [int(part) for part in text.split(":") if text]
    except ValueError:
        raise NgtrainError(f"{option}={text}: expected integers, separated by colons") from None


def parse_factors(option: str, text: str) -> dict[str, float]:
    """Parse ``AffineComponent=0.5:AffineComponentPreconditioned=0.1`` as factors by component type.

    Raises:
        NgtrainError: the text is not of this form; names the option.
    """
    factors = {}
    for part in text.replace(":", " ").split():
        component_type, _, factor = part.partition("=")
        try:
            factors[component_type] = float(factor)
        except ValueError:
            raise NgtrainError(
                f"expected {option} to be like AffineComponent=0.5, instead got {part!r}"
            ) from None
    return factors
