"""Every dependency may be used under a permissive licence; reads `cargo metadata` from standard input."""

import json
import re
import sys

PERMISSIVE = {
    "MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Unicode-3.0",
    "Zlib", "Unlicense", "BSL-1.0", "CC0-1.0", "0BSD", "MIT-0",
}


def permitted(expression):
    """Whether an SPDX expression of AND and OR can be met by permissive licences alone."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))

    def either():
        value = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            value = both() or value
        return value

    def both():
        value = single()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            value = single() and value
        return value

    def single():
        token = tokens.pop(0)
        if token == "(":
            value = either()
            tokens.pop(0)
            return value
        if len(tokens) > 1 and tokens[0] == "WITH":
            tokens.pop(0)
            token = f"{token} WITH {tokens.pop(0)}"
        return token in PERMISSIVE

    return either()


packages = json.load(sys.stdin)["packages"]
refused = [f"{p['name']} {p['version']}: {p['license']}" for p in packages if not permitted(p["license"] or "none")]
print(f"{len(packages)} packages, {len(refused)} without a permissive licence")
sys.exit("\n".join(refused) or 0)
