"""Write the key tables of docs/recipe.md from the recipe's own models: `python docs/make_recipe_tables.py`.

`--check` only compares, and exits with 1 when the page is out of date.
"""

import sys
from pathlib import Path
from typing import Any

from tsugiki.recipe_file import json_schema

PAGE = Path(__file__).with_name("recipe.md")
MARK = "<!-- tables: made by make_recipe_tables.py, do not edit below -->"


def tables() -> str:
    """Markdown tables of every section, in the order of the schema."""
    schema = json_schema()
    definitions = schema.get("$defs", {})
    parts = [table("recipe", schema, definitions)]
    for name, section in definitions.items():
        if section.get("properties"):
            parts.append(table(name, section, definitions))
    return "\n".join(parts)


def table(name: str, section: dict[str, Any], definitions: dict[str, Any]) -> str:
    required = set(section.get("required", []))
    lines = [f"## {name}", "", "| key | type | default | on resume | meaning |", "|---|---|---|---|---|"]
    for key, field in section["properties"].items():
        default = "required" if key in required else f"`{short(field.get('default'))}`"
        text = " ".join(str(field.get("description", "")).split()).replace("|", "\\|")
        lines.append(f"| `{key}` | {type_of(field)} | {default} | {field.get('resume', 'fixed')} | {text} |")
    return "\n".join([*lines, ""])


def short(value: Any) -> str:
    return "…" if isinstance(value, dict) else str(value).replace("None", "null")


def type_of(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return f"section {field['$ref'].rsplit('/', 1)[1]}"
    if "enum" in field:
        return " \\| ".join(f"`{choice}`" for choice in field["enum"])
    if "anyOf" in field:
        return " or ".join(type_of(part) for part in field["anyOf"] if part.get("type") != "null")
    if field.get("type") == "array":
        return f"list of {type_of(field.get('items', {}))}"
    if field.get("type") == "object" and isinstance(field.get("additionalProperties"), dict):
        return f"name: {type_of(field['additionalProperties'])}"
    return str(field.get("type", "any"))


def main() -> None:
    head = PAGE.read_text(encoding="utf-8").split(MARK)[0]
    page = f"{head}{MARK}\n\n{tables()}"
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text(encoding="utf-8") != page)
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
