"""Writes templates.json: what Jinja2, set up as transformers does it, makes of chat templates and of single expressions.

The templates are our own, each written the way a family of ChatML models writes its own (Qwen2.5, QwQ, Qwen3,
Qwen3-Coder, LLaMA-Factory, Yi, Nous Hermes, …), without what they do with tools. Run: python3 make_templates.py
"""
import json
import pathlib

import jinja2
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment
from references import tiny

TEMPLATES = {
    "plain": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "text outside of tags": """{% for message in messages %}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}
  {% if add_generation_prompt %}
<|im_start|>assistant
  {% endif %}
""",
    "default system prompt": """{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are a "test", {curious}.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- message.tool_calls | tojson }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}""",
    "thinks at once": """{%- for message in messages %}
    {%- if message.role == "assistant" and not message.tool_calls %}
        {%- set content = message.content %}
        {%- if not loop.last %}
            {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n<think>\\n' }}
{%- endif %}""",
    "thinks if it likes": """{%- set ns = namespace(searching=true, last_question=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.searching and message.role == "user" and not(message.content.startswith('<r>') and message.content.endswith('</r>')) %}
        {%- set ns.searching = false %}
        {%- set ns.last_question = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role != "assistant" %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- else %}
        {%- set content = message.content %}
        {%- set thoughts = '' %}
        {%- if message.reasoning_content is defined and message.reasoning_content is not none %}
            {%- set thoughts = message.reasoning_content %}
        {%- elif '</think>' in message.content %}
            {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}
            {%- set thoughts = message.content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_question and (loop.last or (not loop.last and thoughts)) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + thoughts.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}""",
    "macros and tools that are not there": """{% macro extra(dictionary, handled) %}
    {%- if dictionary is mapping %}{%- for key in dictionary if key not in handled %}{{ key | tojson }}{%- endfor %}{%- endif %}
{% endmacro %}
{#- a comment -#}
{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if system_message is defined %}
    {{- "<|im_start|>system\\n" + system_message }}
{%- elif tools is iterable and tools | length > 0 %}
    {{- "<|im_start|>system\\nThere are tools." + extra(tools[0], ["type"]) }}
{%- endif %}
{%- if system_message is defined or (tools is iterable and tools | length > 0) %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in loop_messages %}
    {%- if message.content is string %}{%- set content = message.content %}{%- else %}{%- set content = '' %}{%- endif %}
    {%- if message.role in ["user", "system", "assistant"] and not (message.tool_calls is defined and message.tool_calls | length > 0) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif loop.previtem and loop.previtem.role != "tool" %}
        {{- extra(message, []) }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
""",
    "answers begin with the question": "{% set system_message = 'You are a helpful test.' %}{% if messages[0]['role'] == 'system' %}"
    "{% set system_message = messages[0]['content'] %}{% endif %}{% if system_message is defined %}{{ '<|im_start|>system\n' + "
    "system_message + '<|im_end|>\n' }}{% endif %}{% for message in messages %}{% set content = message['content'] %}"
    "{% if message['role'] == 'user' %}{{ '<|im_start|>user\n' + content + '<|im_end|>\n<|im_start|>assistant\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ content + '<|im_end|>' + '\n' }}{% endif %}{% endfor %}",
    "strict, with BOS and EOS": "{{ bos_token }}{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
    "{% if messages[0].role == 'system' %}{% set rest = messages[1:] %}{{ '<|im_start|>system\\n' ~ messages[0].content ~ eos_token ~ '\\n' }}"
    "{% else %}{% set rest = messages %}{% endif %}{% for message in rest %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% generation %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ eos_token + '\\n' }}{% endgeneration %}{% endfor %}{{ '<|im_start|>assistant\\n' if add_generation_prompt else '' }}",
    # Not ChatML as known here.
    "trims": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] | trim + '<|im_end|>\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "trims answers": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + (message['content'].strip() if message.role == "
    "'assistant' else message['content']) + '<|im_end|>\n'}}{% endfor %}{{ '<|im_start|>assistant\n' }}",
    "no line break": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "another separator": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '<|im_sep|>' + message['content'] + '<|im_end|>'}}"
    "{% endfor %}{{ '<|im_start|>assistant<|im_sep|>' }}",
    "tools in any case": "{{ bos_token }}{{- '<|im_start|>system\n' }}{{- \"You may call functions, don't you know.\" }}{{- '<|im_end|>\n' }}"
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}",
    "an example first": "{{ '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo<|im_end|>\n' }}{% for message in messages %}{{'<|im_start|>' + "
    "message['role'] + '\n' + message['content'] + '<|im_end|>\n'}}{% endfor %}{{ '<|im_start|>assistant\n' }}",
    "a name for the user": "{% for message in messages %}{{'<|im_start|>' + ('human' if message.role == 'user' else message.role) + '\n' + "
    "message['content'] + '<|im_end|>\n'}}{% endfor %}{{ '<|im_start|>assistant\n' }}",
}  # fmt: skip

EXPRESSIONS = r"""1 + 2 - 4; 'a' + 'b' ~ 1 ~ none ~ true; 7 % 4 == 3 and not 2 > 3; 'a' in 'bab'; 'c' not in ['a', 'b']; 'role' in messages[0]
messages[0].role; messages[-1]['role']; messages[7]; messages[7].role; messages[0].nothing; messages[0].nothing.more; nothing; nothing.more
nothing or 'else'; '' or 0 or 'x'; 'a' and ''; none and nothing.more; 'x' or nothing.more; 'a' if true else nothing.more; 'a' if false
1 if 0 else 2 if 0 else 3; not not 'a'; not 'a' in 'abc'; (messages | length) > 1; messages[1:] | length; messages[:-1] | length; messages[9:] | length
messages[::-1][0].role; messages[-2:][0].role; messages[:0] | length; messages[5:1:-1] | length; messages[1::-1][1].role; messages[2:4:][1].content
' a\n'.strip() + '|'; 'xxaxx'.strip('x'); 'abc'.lstrip('ba'); 'abcb'.rstrip('b'); 'a,b,,c'.split(',')[2] == ''; 'abc'.split('x')[0]; 'a'.split('')
'a' 'b' "c'd"; 'a\tb\'c\\'; "\"q\""; 'abc'.startswith('ab'); 'abc'.endswith('ab'); ' x ' | trim | trim | length; 'é👋' | length; nothing | length
nothing is defined; nothing is not defined; none is none; 'a' is string; 1 is string; messages is iterable; messages[0] is mapping; nothing is undefined
true is true; 1 is true; false is false; true is boolean; 'a' is sequence; nothing is iterable; none is iterable; none | trim; none == nothing; 'a' == 1
1 < 2; 2 <= 1; 'x' == 'x'; 'a' != 'b'; nothing == nothing; 'a' + 1; 1 + none; nothing + 'a'; 'a' in nothing; 'a' in none; -1 + 2; -messages
(1); ((('a'))); [] | length; [1, 'a', none,][1]; nothing | default('d'); '' | default('d'); '' | default('d', true); messages | default('x') | length
raise_exception('no'); strftime_now is defined; namespace(a=1, b='c').b; 1 2; | 1; (1; 'a' if; messages[; messages.; 9223372036854775807 - 1"""

# Jinja knows these; ours must say that it does not.
UNKNOWN = r"""'a' | upper; 'a'.replace('a', 'b'); range(3) | length; {'a': 1}.a; 1.5; 'abc'[0]; 'abc'[:2]; messages | tojson; messages | map(attribute='role') | list
2 * 3; 7 // 2; 1 < 2 < 3; messages[::2] | length; strftime_now('%d'); 1 is number; 'a' is eq('a'); '\x41'; 'a'.split() | length; ('a', 'b')[0]; -7 % 4
messages | first; messages; 1 == true; ['a'] == ['a']; messages[0].items()"""
UNKNOWN_STATEMENTS = ["{% for a, b in [] %}{% endfor %}", "{% for a in messages if a %}x{% endfor %}", "{% for a in [] %}{% else %}x{% endfor %}",
                      "{% set a, b = 1, 2 %}", "{% set a %}x{% endset %}", "{% macro m() %}x{% endmacro %}{{ m() }}", "{% raw %}x{% endraw %}",
                      "{% filter trim %}x{% endfilter %}", "{% with a = 1 %}{% endwith %}", "{% for a in messages %}{% break %}{% endfor %}",
                      "{% for a in 'abc' %}{{ a }}{% endfor %}", "{{ messages }}"]  # fmt: skip


def message(role, content):
    return {"role": role, "content": content}


S, U, V, A = message("system", " Be\nbrief. "), message("user", "\n Hello? \n"), message("user", "é👋  <think>"), message("assistant", "\n Yes. \n")
T = message("assistant", "<think>\nHm.\n</think>\n\nNo. ")
CONVERSATIONS = [[U], [S, U], [U, A, U], [S, U, A, V], [U, T, U], [S, V, T, V, A, U], [U, U], [S, S, U], [U, S, U], [U, A, A, U], [U, A, S, U],
                 [A, U], [S, A, U], [S], [U, A], [U, T], [U, S], [U, T, S], [U, A, V, T]]  # fmt: skip


class Generation(Extension):
    """transformers' mark of what a model is trained on: what it encloses is written."""

    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def refuse(reason):
    raise jinja2.exceptions.TemplateError(reason)


def environment():
    out = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    out.globals |= {"raise_exception": refuse, "strftime_now": lambda form: "2026-11-24"}
    return out


def render(source, messages):
    variables = {"messages": messages, "add_generation_prompt": True, "tools": None, "documents": None,
                 "bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"}  # fmt: skip
    try:
        return environment().from_string(source).render(**variables)
    except (jinja2.exceptions.TemplateError, TypeError, ValueError):
        return None


def split(text):
    return text.replace("\n", "; ").split("; ")


def main():
    tokenizer = tiny("qwen2")
    templates = {}
    for name, source in TEMPLATES.items():
        texts = [render(source, messages) for messages in CONVERSATIONS]
        ids = [None if t is None else tokenizer.encode(t, add_special_tokens=False).ids for t in texts]
        templates[name] = {"template": source, "texts": texts, "ids": ids}
    expressions = [[e, render("{{ " + e + " }}", CONVERSATIONS[5])] for e in split(EXPRESSIONS)]
    unknown = ["{{ " + e + " }}" for e in split(UNKNOWN)] + UNKNOWN_STATEMENTS
    document = {"conversations": CONVERSATIONS, "expressions_of": 5, "expressions": expressions, "unknown": unknown, "templates": templates}
    path = pathlib.Path(__file__).with_name("templates.json")
    path.write_text(json.dumps(document, indent=0).replace(",\n", ",") + "\n")
    print(len(templates), "templates,", len(expressions), "expressions, refused:", [e for e, out in expressions if out is None])


main()
