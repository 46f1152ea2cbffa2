#!/usr/bin/env python3
"""Writes the C functions that test_call.c calls by every route, with all kinds of signatures.

Usage: gen_call_cases.py [SEED [COUNT]] > call_cases.c

COUNT is the number of random signatures of 0 to 16 parameters. Before them come systematic ones:
each result type alone, and each number of integers, floats, doubles, alternating types, so that
every dedicated loop and every boundary between registers and stack is met whatever the seed. After
them come some of up to 64 parameters, for the route that serves what the others cannot.

The same seed gives the same text. What the generated functions do is described in call_cases.h.
"""

import random
import sys

# By type letter (those of test_signature.c; 'o' is bool): C types, with a place for the name.
SPELLINGS = {
    "o": ["bool %s", "_Bool %s"],
    "b": ["int8_t %s", "signed char %s"],
    "B": ["uint8_t %s", "unsigned char %s"],
    "h": ["int16_t %s", "short %s", "signed short int %s"],
    "H": ["uint16_t %s", "unsigned short %s"],
    "i": ["int32_t %s", "int %s", "const int %s"],
    "I": ["uint32_t %s", "unsigned %s", "unsigned int %s"],
    "l": ["int64_t %s", "long long %s", "long long int %s"],
    "L": ["uint64_t %s", "unsigned long long %s"],
    "f": ["float %s"],
    "d": ["double %s", "double const %s"],
    "p": ["void *%s", "char **%s", "struct point *%s", "opaque *%s", "void (*%s)(int)", "int *const %s"],
    "P": ["const void *%s", "char const *%s", "const struct point *%s", "char *const *%s"],
    "j": ["wp_job *%s"],
}
PARAMETERS = "obBhHiIlLfdpPj"
# Compilers warn of a result that is const, which says nothing.
RESULTS = {letter: [text for text in SPELLINGS[letter] if "const" not in text] for letter in "obBhHiIlLfd"}
RESULTS["v"] = ["void %s"]
RESULTS["p"] = ["void *%s", "struct point *%s"]
RESULTS["P"] = ["const char *%s"]

# Mixtures of parameter types to draw from: all of them, mostly floating, mostly integers, narrow.
STYLES = [PARAMETERS, "ffffddddip", "iIlLpPjd", "obBhHf"]


def conversion(letter):
    """The letter that the conversions of call_cases.h go by: all pointers are converted alike."""
    return "p" if letter in "pPj" else letter


class Case:
    """One function: its types by letter, and one spelling of each drawn at random."""

    def __init__(self, rng, number, result, parameters):
        self.number = number
        self.letters = result + parameters
        self.result = rng.choice(RESULTS[result])
        self.parameters = [rng.choice(SPELLINGS[letter]) for letter in parameters]
        self.named = rng.random() < 0.5

    def signature(self):
        names = [f"a{i}" if self.named else "" for i in range(len(self.parameters))]
        texts = [text % name for text, name in zip(self.parameters, names, strict=False)]
        return f"{(self.result % '').strip()} ({', '.join(text.strip() for text in texts)})"

    def declaration(self, name):
        parameters = ", ".join(text % f"a{i}" for i, text in enumerate(self.parameters))
        return self.result % f"{name}({parameters or 'void'})"

    def value(self, text, letter, slot):
        """C that makes a value of this spelling from a slot."""
        return f"({(text % '').strip()})value_{conversion(letter)}({slot})"

    def slot(self, letter, value):
        cast = "(uintptr_t)" if conversion(letter) == "p" else ""
        return f"slot_{conversion(letter)}({cast}{value})"

    def function(self):
        slots = [self.slot(letter, f"a{i}") for i, letter in enumerate(self.letters[1:])]
        lines = [f"static {self.declaration(f'case_{self.number}')}", "{"]
        if slots:
            lines.append(f"    const uint64_t slots[] = {{{', '.join(slots)}}};")
        arguments = f"slots, {len(slots)}" if slots else "NULL, 0"
        note = f"call_note({self.number}, {arguments})"
        if self.letters[0] == "v":
            lines.append(f"    (void){note};")
        else:
            lines.append(f"    return {self.value(self.result, self.letters[0], note)};")
        return lines + ["}"]

    def caller(self):
        """The plain call; the pointer is volatile to hide the function from the compiler."""
        name = f"plain_{self.number}"
        arguments = [
            self.value(text, letter, f"args[{i}]")
            for i, (text, letter) in enumerate(zip(self.parameters, self.letters[1:], strict=False))
        ]
        call = f"fn({', '.join(arguments)})"
        pointer = self.declaration("(*volatile fn)")
        lines = [f"static void {name}(const uint64_t *args, uint64_t *result)", "{"]
        lines.append(f"    {pointer} = case_{self.number};")
        if not arguments:
            lines.append("    (void)args;")
        if self.letters[0] == "v":
            lines += [f"    {call};", "    *result = 0;"]
        else:
            lines.append(f"    *result = {self.slot(self.letters[0], call)};")
        return lines + ["}"]

    def row(self):
        types = self.letters.replace("o", "?")
        return f'    {{"{self.signature()}", "{types}", (void (*)(void))case_{self.number}, plain_{self.number}}},'


def systematic():
    """Result and parameters of the signatures that are there for any seed."""
    for result in RESULTS:
        yield result, ""
        yield result, "l"
        yield result, "d"
        yield result, "ld"
    for n in range(1, 21):
        for pattern in ["l", "i", "d", "f", "df", "ld", "fp", "bfB", "ddddhddddo", "llllllbd"]:
            yield "l" if n % 2 else "d", (pattern * n)[:n]
    for n_floats in range(0, 11):
        for n_ints in range(0, 11):
            yield "i", "d" * n_floats + "L" * n_ints
            yield "f", "I" * n_ints + "f" * n_floats


def randomly(rng, count, least, most):
    for _ in range(count):
        style = rng.choice(STYLES)
        n = rng.randint(least, most)
        yield rng.choice(list(RESULTS)), "".join(rng.choice(style) for _ in range(n))


def main(seed=1, count=400):
    rng = random.Random(seed)
    shapes = [*systematic(), *randomly(rng, count, 0, 16), *randomly(rng, 40, 17, 64)]
    cases = [Case(rng, number, *shape) for number, shape in enumerate(shapes)]
    print(f"/* Written by gen_call_cases.py {seed} {count}. */")
    print('#include "call_cases.h"')
    for case in cases:
        print("", *case.function(), "", *case.caller(), sep="\n")
    print("", "const call_case call_cases[] = {", *(case.row() for case in cases), "};", sep="\n")
    print("", "const size_t n_call_cases = sizeof call_cases / sizeof *call_cases;", sep="\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
