"""The base of a request's parts, and pydantic's complaints as errors with a code, a message and a remedy."""

from __future__ import annotations

from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from emotivetalk.errors import InputError, InvalidRequestError


class Frozen(BaseModel):
    """Immutable and hashable. Refuses unknown fields, infinities and NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def of(cls, other: BaseModel) -> Self:
        """Take the fields of this class from a model that has them, such as a subclass's instance."""
        return cls(**{name: getattr(other, name) for name in cls.model_fields})


Model = TypeVar("Model", bound=BaseModel)


def checked(model: type[Model], **fields: Any) -> Model:
    """Build a model from the user's values.

    Raises:
        InputError: a value is missing, unknown or out of range (`invalid_request`).
    """
    try:
        return model(**fields)
    except ValidationError as error:
        raise invalid_request(error) from error


def invalid_request(error: ValidationError) -> InputError:
    """Return the first thing that pydantic found wrong: our own error where a validator raised one."""
    first = error.errors(include_url=False, include_input=False)[0]
    ours = first.get("ctx", {}).get("error")
    if isinstance(ours, InputError):
        return ours
    field = ".".join(str(part) for part in first["loc"])
    return InvalidRequestError(field, first["msg"].removeprefix("Value error, ").rstrip("."))
