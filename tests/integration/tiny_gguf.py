"""Writes a tiny Llama with random weights as a GGUF file; standard library only, a fraction of a second.

The weights are random but for six dimensions of the residual stream, which make the model behave like a chat
model where a test needs it: every token has a prior, so that texts, strings and lists come to an end after a few
dozen tokens, and where the prompt offers tools the model opens and closes a tool call.

    CONST   the same for every token: the output head reads a prior from it
    DONE    marks "</tool_call>": the end of the turn is favoured after it
    START   marks the newline that ends a prompt
    CLOSE   marks "}"
    TOOLS   marks "<tools>", which stands in a prompt with tools
    WANT    is where head 0 of layer 0 copies TOOLS to; with START it favours "<tool_call>", with CLOSE "</tool_call>"
"""

from __future__ import annotations

import math
import random
import struct
from array import array
from dataclasses import dataclass, field
from pathlib import Path

CONTEXT = 16_384
WIDTH, LAYERS, HEADS, HIDDEN = 64, 2, 4, 128
HEAD_WIDTH = WIDTH // HEADS

CONST, DONE, START, CLOSE, TOOLS, WANT = range(6)
MARKS = {"</tool_call>": DONE, "<0x0A>": START, "}": CLOSE, "<tools>": TOOLS}
FAVOURS = {
    "<|im_end|>": {DONE: 3.0},
    "<tool_call>": {WANT: 2.0, START: 2.0, DONE: -2.0},
    "</tool_call>": {WANT: 2.0, CLOSE: 2.0},
}
CONST_SIZE, MARK_SIZE = 4.0, 6.0
NEVER = -20.0

# GGUF: github.com/ggml-org/ggml/blob/master/docs/gguf.md
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
TENSOR_FLOAT32 = 0
ALIGNMENT = 32
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6

CHAT_TEMPLATE = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
    {{- 'You may call one of these functions.\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}
    {{- '\\n</tools>\\nA call is written so:\\n' }}
    {{- '<tool_call>{"name": <function-name>, "arguments": <args-json-object>}</tool_call><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if message.content %}{{- message.content }}{%- endif %}
        {%- for call in message.tool_calls or [] %}
            {%- if message.content or not loop.first %}{{- '\\n' }}{%- endif %}
            {%- if call.function %}{%- set call = call.function %}{%- endif %}
            {{- '<tool_call>{"name": "' + call.name + '", "arguments": ' }}
            {%- if call.arguments is string %}{{- call.arguments }}{%- else %}{{- call.arguments | tojson }}{%- endif %}
            {{- '}</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""


@dataclass(frozen=True, slots=True)
class Token:
    """One entry of the vocabulary; `prior` is its logit without any other influence."""

    text: str
    kind: int
    prior: float


def vocabulary() -> list[Token]:
    """Return the special tokens, one token for each byte, and one for each printable ASCII character."""
    special = [Token("<unk>", UNKNOWN, NEVER), Token("<s>", CONTROL, NEVER), Token("</s>", CONTROL, NEVER)]
    special += [Token("<|im_start|>", CONTROL, NEVER), Token("<|im_end|>", CONTROL, 1.0)]
    special += [Token("<tools>", USER_DEFINED, NEVER)]
    special += [Token(text, USER_DEFINED, -12.0) for text in ("<tool_call>", "</tool_call>")]
    single = [Token(f"<0x{byte:02X}>", BYTE, -2.0 if byte == ord("\n") else -6.0) for byte in range(256)]
    # U+2581 is how SentencePiece writes a space.
    shown = [Token(character, NORMAL, _prior(character)) for character in ["\u2581", *map(chr, range(33, 127))]]
    return special + single + shown


def _prior(character: str) -> float:
    if character == '"':
        return 3.5
    if character in "etaoinshrdlu}]":
        return 2.0
    if character.islower() or character == "\u2581":
        return 1.0
    if character.isdigit():
        return 0.0
    return -3.0 if character in "\\[{" else -1.0


@dataclass
class Weights:
    """The tensors of the model by name, each a matrix in rows, or a vector."""

    seed: int
    tensors: dict[str, tuple[tuple[int, ...], array[float]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def ones(self, name: str) -> None:
        """Add a vector that changes nothing: the weights of a norm."""
        self.tensors[name] = (WIDTH,), array("f", [1.0] * WIDTH)

    def matrix(self, name: str, rows: int, columns: int, deviation: float) -> array[float]:
        """Add a random matrix and return it, to be changed in place."""
        values = array("f", (self.random.gauss(0, deviation) for _ in range(rows * columns)))
        self.tensors[name] = (columns, rows), values  # the format names the fastest dimension first
        return values


def build(tokens: list[Token], seed: int) -> Weights:
    """Return the weights of the model."""
    weights = Weights(seed)
    embedding = weights.matrix("token_embd.weight", len(tokens), WIDTH, 1.0)
    for row, token in enumerate(tokens):
        embedding[row * WIDTH + CONST] = CONST_SIZE
        for mark in range(DONE, WANT + 1):
            embedding[row * WIDTH + mark] = MARK_SIZE if MARKS.get(token.text) == mark else 0.0
    for layer in range(LAYERS):
        _layer(weights, f"blk.{layer}.", finds_tools=layer == 0)
    weights.ones("output_norm.weight")
    output = weights.matrix("output.weight", len(tokens), WIDTH, 0.7 / math.sqrt(WIDTH))
    const_after_norm = CONST_SIZE / math.sqrt((CONST_SIZE**2 + WIDTH - 6) / WIDTH)
    for row, token in enumerate(tokens):
        output[row * WIDTH + CONST] = token.prior / const_after_norm
        for mark in range(DONE, WANT + 1):
            output[row * WIDTH + mark] = FAVOURS.get(token.text, {}).get(mark, 0.0)
    return weights


def _layer(weights: Weights, prefix: str, *, finds_tools: bool) -> None:
    usual = 1 / math.sqrt(WIDTH)
    weights.ones(prefix + "attn_norm.weight")
    query, key, value = (weights.matrix(f"{prefix}attn_{name}.weight", WIDTH, WIDTH, usual) for name in "qkv")
    out = weights.matrix(prefix + "attn_output.weight", WIDTH, WIDTH, 0.3 * usual)
    weights.ones(prefix + "ffn_norm.weight")
    weights.matrix(prefix + "ffn_gate.weight", HIDDEN, WIDTH, usual)
    weights.matrix(prefix + "ffn_up.weight", HIDDEN, WIDTH, usual)
    down = weights.matrix(prefix + "ffn_down.weight", WIDTH, HIDDEN, 0.3 / math.sqrt(HIDDEN))
    for mark in range(WANT + 1):  # nothing else writes to the dimensions that have a meaning
        out[mark * WIDTH : (mark + 1) * WIDTH] = array("f", bytes(4 * WIDTH))
        down[mark * HIDDEN : (mark + 1) * HIDDEN] = array("f", bytes(4 * HIDDEN))
    if finds_tools:
        _find_tools(query, key, value, out)


def _find_tools(query: array[float], key: array[float], value: array[float], out: array[float]) -> None:
    """Let head 0 attend to "<tools>", wherever it stands, and copy TOOLS to WANT."""
    for matrix in (query, key, value):
        matrix[: HEAD_WIDTH * WIDTH] = array("f", bytes(4 * HEAD_WIDTH * WIDTH))
    for row in range(WIDTH):
        out[row * WIDTH : row * WIDTH + HEAD_WIDTH] = array("f", bytes(4 * HEAD_WIDTH))
    slowest = HEAD_WIDTH - 2  # the pair that the rotary embedding turns slowest: distance hardly matters
    query[slowest * WIDTH + CONST] = 4.0
    key[slowest * WIDTH + TOOLS] = 2.0
    value[TOOLS] = 1.0
    out[WANT * WIDTH] = 1.2


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _entry(key: str, kind: int, value: bytes) -> bytes:
    return _text(key) + struct.pack("<I", kind) + value


def _metadata(tokens: list[Token], template: str) -> list[bytes]:
    numbers = {
        "general.file_type": 0,
        "llama.context_length": CONTEXT,
        "llama.embedding_length": WIDTH,
        "llama.block_count": LAYERS,
        "llama.feed_forward_length": HIDDEN,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": HEADS,
        "llama.rope.dimension_count": HEAD_WIDTH,
        "llama.vocab_size": len(tokens),
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": next(i for i, token in enumerate(tokens) if token.text == "<|im_end|>"),
    }
    texts = {
        "general.architecture": "llama",
        "general.name": "tiny-random",
        "tokenizer.ggml.model": "llama",
        "tokenizer.chat_template": template,
    }
    switches = {"add_bos_token": True, "add_eos_token": False, "add_space_prefix": False}
    scores = array("f", [-1.0 if token.kind == NORMAL else 0.0 for token in tokens])
    kinds = array("i", [token.kind for token in tokens])
    return [
        *(_entry(key, UINT32, struct.pack("<I", number)) for key, number in numbers.items()),
        *(_entry(key, STRING, _text(text)) for key, text in texts.items()),
        *(_entry(f"tokenizer.ggml.{key}", BOOL, struct.pack("<?", switch)) for key, switch in switches.items()),
        _entry("llama.attention.layer_norm_rms_epsilon", FLOAT32, struct.pack("<f", 1e-5)),
        _entry("llama.rope.freq_base", FLOAT32, struct.pack("<f", 1e7)),
        _list("tokenizer.ggml.tokens", STRING, len(tokens), b"".join(_text(token.text) for token in tokens)),
        _list("tokenizer.ggml.scores", FLOAT32, len(tokens), scores.tobytes()),
        _list("tokenizer.ggml.token_type", INT32, len(tokens), kinds.tobytes()),
    ]


def _list(key: str, kind: int, length: int, values: bytes) -> bytes:
    return _entry(key, ARRAY, struct.pack("<IQ", kind, length) + values)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % ALIGNMENT)


def write(path: Path, *, seed: int = 7, template: str = CHAT_TEMPLATE) -> Path:
    """Write the model and return its path."""
    tokens = vocabulary()
    metadata = _metadata(tokens, template)
    tensors = build(tokens, seed).tensors
    heads, data = b"", b""
    for name, (shape, values) in tensors.items():
        heads += _text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        heads += struct.pack("<IQ", TENSOR_FLOAT32, len(data))
        data += _padded(values.tobytes())
    start = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    path.write_bytes(_padded(start + b"".join(metadata) + heads) + data)
    return path
