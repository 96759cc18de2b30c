"""Writes expected.json: what Jinja2, set up as Hugging Face's apply_chat_template sets it up, makes of the templates."""
import json, pathlib
import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).parent


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_same"), [], [], body).set_lineno(line)

    def _same(self, caller):
        return caller()


def refuse(words):
    raise jinja2.exceptions.TemplateError(words)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def message(role, content):
    return {"role": role, "content": content}


ONE = [message("user", "Hi")]
TALK = [message("user", "Hello, how are you?"), message("assistant", "I'm doing great. How can I help you today?"),
        message("user", "  I'd like to show off how <b>chat</b> templating works!\n")]
CHATS = {
    "one": ONE, "talk": TALK, "system": [message("system", " Answer briefly. ")] + TALK,
    "ends with an answer": TALK[:2], "two users": ONE + ONE,
    "thoughts": ONE + [message("assistant", "<think>\nhm\n</think>\n\nHi!"), message("user", "Bye")],
    "last thoughts": ONE + [message("assistant", "<think>\nhm\n</think>\n\nHi!")],
    "tool": ONE + [message("tool", '{"a": "é"}'), message("stop", "x"), message("user", "y")],
}
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "sep_token": "[SEP]", "additional_special_tokens": ["<a>", "<b>"]}

env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
env.filters["tojson"] = tojson
env.globals["raise_exception"] = refuse
env.globals["strftime_now"] = lambda format: "today"
cases = []
for path in sorted(HERE.glob("*.jinja")):
    template = env.from_string(path.read_text(encoding="utf-8"))
    for name, chat in CHATS.items():
        for prompt in (True, False):
            for variables in ({}, {"enable_thinking": False}) if path.stem == "qwen3" else ({},):
                case = {"template": path.stem, "chat": name, "messages": chat, "add_generation_prompt": prompt,
                        "variables": variables}
                try:
                    case["text"] = template.render(messages=chat, tools=None, documents=None,
                                                   add_generation_prompt=prompt, **TOKENS, **variables)
                except jinja2.exceptions.TemplateError as error:
                    case["refusal"] = str(error)
                cases.append(case)
(HERE / "expected.json").write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
