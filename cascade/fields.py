"""Fields of rows in the types that a program declares, and values of a program as JSON.

Rows are JSON. A program may want a pydantic model, an enum, a date or a `dspy.Image`: what its signatures declare, it
gets, and a metric finds expected answers in the same types. Invariant: what JSON holds as it is declared (text,
numbers, truth values, lists and tables of them, literals) stays as it is in the row; making a value opens no file but
images of the data set, and no connection.
"""

import base64
import hashlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, TypeAdapter

IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff")
"""How the names of image files end."""
_IN_JSON = (str, int, float, bool, type(None), list, dict, object)
_HELD = (list, dict, Sequence, Mapping, Union, UnionType)
_DATA = re.compile(r"data:([\w/+.-]+);base64,([A-Za-z0-9+/=]*)")
_WRAPPED = re.compile(
    r'<<CUSTOM-TYPE-START-IDENTIFIER>>\[\{"type": "image_url", "image_url": \{"url": "([^"]*)"\}\}\]'
    r"<<CUSTOM-TYPE-END-IDENTIFIER>>"
)
"""How DSPy writes an image into saved demos."""

MakeImage = Callable[[Any], Any]
"""Makes a `dspy.Image` of a row's value; raises `ValueError` where it cannot."""


def types_of(program: Any) -> dict[str, Any]:
    """Types by field, of those that JSON does not hold as they are declared.

    What `forward` declares of its parameters comes first, then inputs of predictors, then outputs: of several that have
    one name, the first predictor's input and the last one's output.
    """
    declared: dict[str, Any] = {}
    for predictor in program.predictors():
        declared |= {name: field.annotation for name, field in predictor.signature.output_fields.items()}
    for predictor in reversed(program.predictors()):
        declared |= {name: field.annotation for name, field in predictor.signature.input_fields.items()}
    declared |= _parameters(program)
    return {name: kind for name, kind in declared.items() if not in_json(kind)}


def in_json(annotation: Any) -> bool:
    """Whether JSON holds values of a type as they are.

    >>> in_json(list[str]), in_json(Literal["a", "b"]), in_json(Path)
    (True, True, False)
    """
    if annotation is Any or get_origin(annotation) is Literal:
        return True
    if get_origin(annotation) in _HELD:
        return all(in_json(part) for part in get_args(annotation))
    return annotation in _IN_JSON


def type_name(annotation: Any) -> str:
    """A type as it is written.

    >>> type_name(list[Path]), type_name(Path)
    ('list[pathlib.Path]', 'Path')
    """
    return str(annotation).replace("typing.", "") if get_args(annotation) else getattr(annotation, "__name__", "")


def typed(value: Any, annotation: Any, image: MakeImage) -> Any:
    """A value of a row in a declared type.

    Raises:
        ValueError: the type has no such value.
    """
    return _adapter(annotation).validate_python(_with_images(value, annotation, image))


def typed_row(row: Mapping[str, Any], types: Mapping[str, Any], image: MakeImage) -> dict[str, Any]:
    """A row whose fields have the declared types; what a type does not take stays as it is, and checks tell of it."""
    made = dict(row)
    for name in types.keys() & row.keys():
        try:
            made[name] = typed(row[name], types[name], image)
        except ValueError:
            continue
    return made


def image_from(folder: Path, files: Mapping[str, str]) -> MakeImage:
    """Makes images of files that a data set's folder holds, of URLs, and of encoded images.

    Args:
        files: names of the files, as rows have them, that may be read.
    """
    import dspy

    def make(value: Any) -> Any:
        source = value.get("url") if isinstance(value, Mapping) and set(value) == {"url"} else value
        if isinstance(source, str) and source in files:
            return dspy.Image.from_path(str(folder / source))
        if isinstance(source, str) and source.startswith(("data:image/", "http://", "https://", "gs://")):
            return dspy.Image(source)  # opens nothing
        raise ValueError(f"{shortened(str(source))!r} is no file of the data set, no URL and no data URI of an image")

    return make


def looked_at(files: Mapping[str, str]) -> MakeImage:
    """Stands in for `image_from` where it is only looked whether an image could be made: reads nothing."""
    import dspy

    make, any_image = image_from(Path(), {}), dspy.Image("data:image/png;base64,")
    return lambda value: any_image if isinstance(value, str) and value in files else make(value)


def image_files(value: Any, folder: Path) -> Iterator[str]:
    """Texts in a value of a row that name an image file in a folder, or below it."""
    if isinstance(value, str):
        inside = value.lower().endswith(IMAGES) and not value.startswith(("/", "~")) and ".." not in Path(value).parts
        if inside and (folder / value).is_file():
            yield value
    elif isinstance(value, Mapping | list):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from image_files(one, folder)


def by_content(value: Any, files: Mapping[str, str]) -> Any:
    """A value of a row in which each file is known by what it holds.

    Args:
        files: hash by name.
    """
    if isinstance(value, str):
        return files.get(value, value)
    if isinstance(value, Mapping):
        return {name: by_content(one, files) for name, one in value.items()}
    return [by_content(one, files) for one in value] if isinstance(value, list) else value


def plain(value: Any) -> Any:
    """A value of a program as JSON: models as tables, enums as their value, dates as text, what is left as its text."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, Enum):
        return plain(value.value)
    return value if value is None or isinstance(value, str | int | float) else _dumped(value)


def _dumped(value: Any) -> Any:
    try:
        return _adapter(type(value)).dump_python(value, mode="json", fallback=str)
    except Exception:  # whatever a type that nobody knows does
        return str(value)


def shortened(value: Any) -> Any:
    """A JSON value in which each encoded image is a word with its kind, size and hash.

    >>> shortened({"photo": "data:image/png;base64,aGVsbG8="})
    {'photo': '[image/png, 5 bytes, sha256 2cf24dba5fb0]'}
    """
    if isinstance(value, str):
        return _DATA.sub(_word, _WRAPPED.sub(r"\1", value)) if "base64," in value else value
    if isinstance(value, Mapping):
        return {name: shortened(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [shortened(one) for one in value]
    return value


def _word(match: re.Match[str]) -> str:
    try:
        content = base64.b64decode(match[2], validate=True)
    except ValueError:
        content = match[2].encode()
    return f"[{match[1]}, {len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()[:12]}]"


def _parameters(program: Any) -> dict[str, Any]:
    """Types of the parameters of a program's own `forward`."""
    forward = getattr(type(program), "forward", None)
    if forward is None or type(program).__module__.partition(".")[0] == "dspy":
        return {}
    try:
        hints = get_type_hints(forward)
    except Exception:  # names that are not there when the program runs
        return {}
    named = inspect.signature(forward).parameters
    return {name: kind for name, kind in hints.items() if name in named and kind not in (Any, object)}


def _with_images(value: Any, annotation: Any, image: MakeImage) -> Any:
    """The value with a `dspy.Image` wherever the type has one: in lists, tables and models too."""
    import dspy

    parts = get_args(annotation)
    if annotation is dspy.Image and value is not None:
        return image(value)
    if get_origin(annotation) in (Union, UnionType):
        held = next((part for part in parts if dspy.Image.extract_custom_type_from_annotation(part)), None)
        return _with_images(value, held, image)
    if isinstance(value, list) and parts:
        return [_with_images(one, parts[0], image) for one in value]
    if isinstance(value, Mapping):
        kinds = _kinds(annotation)
        return {name: _with_images(one, kinds(name), image) for name, one in value.items()}
    return value


def _kinds(annotation: Any) -> Callable[[str], Any]:
    """Types of the values of a table or a model by name; None where nothing is known."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return lambda name: field.annotation if (field := annotation.model_fields.get(name)) else None
    parts = get_args(annotation)
    return lambda _name: parts[1] if len(parts) == 2 else None


@lru_cache(maxsize=256)
def _made(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return _made(annotation)
