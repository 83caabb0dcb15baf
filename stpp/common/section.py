"""What every section of the configuration is made of: fields with a description, a default, a unit and limits."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """Common behaviour of all sections: unknown keys are refused, values are not coerced, and nothing changes them.

    They have a hash, because pydantic copies a default without one for each configuration, and a plan has thousands.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    def __hash__(self) -> int:
        return hash(type(self))


def setting(default: Any, description: str, unit: str | None = None, **limits: Any) -> Any:
    """A pydantic field with a description, and a unit where it has one."""
    return Field(default, description=description, json_schema_extra={"unit": unit} if unit else None, **limits)
