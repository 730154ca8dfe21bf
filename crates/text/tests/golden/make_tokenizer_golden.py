"""Reference data for the tokenizer and chat template tests.

    python make_tokenizer_golden.py [SmolLM2-135M-Instruct.gguf]

needs `tokenizers`, `transformers` and, with a GGUF file, `gguf`. Writes, beside this file:

tokenizer/texts.json            the texts that are encoded
tokenizer/byte_level/           a small byte-level BPE tokenizer trained here: tokenizer.json, the same vocabulary as GGUF
                                metadata, and the ids that `tokenizers` gives for each text and each pre-tokenizer
tokenizer/sentence_piece.json   a small SentencePiece-like BPE vocabulary as GGUF metadata, with the ids that
                                `tokenizers` gives with the merges that `transformers` derives from its scores
tokenizer/smollm2.json          (with a GGUF file) the ids that SmolLM2's tokenizer gives for each text
chat_templates/expected.json    what `transformers` renders for the templates in chat_templates/*.jinja
chat_templates/features.json    small templates, each for one feature of the template language, and their renderings
"""

import datetime
import json
import random
import sys
from pathlib import Path

import tokenizers
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers.convert_slow_tokenizer import generate_merges
from transformers.utils import chat_template_utils

HERE = Path(__file__).parent
ORIGIN = f"made by make_tokenizer_golden.py with tokenizers {tokenizers.__version__}, transformers {transformers.__version__}"

# ---------------------------------------------------------------------------------------------------------------------
# Texts

TEXTS = [
    "", " ", "  ", "\n", "\t", "\r\n", "\n\n", " \n", "\n ", "a", " a", "a ", "  a  ", "0", "é", "€", "😀",
    "Hello", "hello world", "Hello, world!", "The quick brown fox jumps over the lazy dog.",
    "I'm sure they've said we'll go; you'd know it's John's, isn't it?", "I'M SURE THEY'VE SAID WE'LL GO",
    "'s't're've'm'll'd", "''''", "don't", "don’t", "rock 'n' roll", "o'clock's",
    "supercalifragilisticexpialidocious", "antidisestablishmentarianism", "HTTPServerError", "camelCaseIdentifier",
    "snake_case_identifier", "kebab-case-identifier", "SCREAMING_SNAKE", "iPhone15ProMax", "x86_64", "utf8mb4",
    "1", "12", "123", "1234", "12345", "1234567890", "3.14159", "-2.5e-10", "1,000,000", "$1,234.56", "50%", "1st 2nd",
    "0x1F600", "2024-07-26T12:34:56Z", "192.168.0.1", "(555) 123-4567", "007", "a1b2c3", "1 2 3 4 5", "100km/h",
    "½ ¼ ¾", "x² + y³", "H₂O", "Ⅷ Ⅸ", "①②③", "١٢٣", "१२३", "１２３", "一二三", " ²", " ½ cup", "5²=25",
    "ſ 'ſ 'S", "K K", "ǅ ǆ", "ﬁ ﬂ",
    "def f(x):\n    return x + 1\n", "for (int i = 0; i < n; ++i) { sum += a[i]; }", "if x != y and not z:\n\tpass",
    "<html><body class=\"a\">&amp;</body></html>", "SELECT * FROM t WHERE a >= 10;", "fn main() { println!(\"{}\", 1); }",
    "#include <stdio.h>\n#define MAX(a,b) ((a)>(b)?(a):(b))", "{\"key\": [1, 2.5, null, true]}", "a = b ? c : d;",
    "x = {**a, 'b': 1}", "/usr/local/bin/python3", "C:\\Users\\name\\file.txt", "https://example.com/a?b=c&d=e#f",
    "user@example.com", "$PATH", "`code`", "```rust\nlet x = 1;\n```", "# Title\n\n- item\n- item\n\n1. one\n2. two",
    "    four spaces", "        eight spaces", "\tone tab", "\t\t\ttabs", "trailing spaces   ", "trailing newline\n",
    "a\n\nb", "a\n\n\nb", "a \n b", "a\r\nb\r\nc", "a\n    b\n        c", "   \n   \n   x", " \t \n \t x", "\n\n\n\n",
    "a\u00a0b", "a\u2003b", "a\u3000b", "a\u200bb", "a\u2028b", "a\u0085b", "a\x0bb\x0cc", "\ufeffbom", "tab\tin\ttext",
    "!", "!!!", "?!?!", "...", "…", "—", "a—b", "“quoted”", "«quoted»", "(a)[b]{c}<d>", "***bold***", "== != <= >=",
    "->=>::", "~~~", "^_^", "¯\\_(ツ)_/¯", "+-*/%", "|a|b|", "@#$%^&*", "\\n", "\"", "'", "‽", "№ 5", "§ 12", "© ® ™",
    "∀x∈ℝ: x² ≥ 0", "∫₀^∞ e^{-x} dx", "α + β = γ", "→ ← ↔", "$\\frac{a}{b}$", "≈ ≠ ≤ ≥ ±", "°C µm", "√2 ≈ 1.414",
    "naïve café résumé", "Ærøskøbing Straße", "Zażółć gęślą jaźń", "Příliš žluťoučký kůň", "Đặng Thị Hồng",
    "Привет, мир!", "нещо на Български", "Καλημέρα κόσμε", "שלום עולם", "مرحبا بالعالم", "سلام دنیا", "नमस्ते दुनिया",
    "สวัสดีชาวโลก", "გამარჯობა", "Բարեւ", "ሰላም ልዑል", "வணக்கம்", "你好，世界！", "こんにちは世界", "カタカナ", "ｶﾀｶﾅ", "안녕하세요 세계",
    "我有3个苹果和12个橙子。", "東京は2024年", "中文English混合", "「引用」『引用』", "全角！？", "𠮷野家", "ᚠᛇᚻ", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "ﷺ",
    "😀😃😄", "👍🏽", "👨‍👩‍👧‍👦", "🇩🇪🇫🇷", "❤️", "🏳️‍🌈", "text😀text", " 😀", "😀 ", "1️⃣", "🤷🏻‍♀️ shrug", "✓ ✗", "⚠️ warning",
    "e\u0301", "cafe\u0301", "n\u0303o", "a\u0308\u0323", "\u0301", "\u0301\u0302\u0303", "Z\u0351\u036b\u0343a\u0323l\u0348g\u0361o",
    "क्\u200dष", "\u0e01\u0e33", "ｅ\u0301", "\u1112\u1161\u11ab",
    "\x00", "a\x00b", "\x01\x02\x03", "\x1b[31mred\x1b[0m", "\x7f", "\ufffd", "\ue000", "\U0010ffff",
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "a<|im_end|>b", " <|im_end|> ", "<|im_end|><|im_end|>", "<|im_end|>\n",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "<|im_end", "<|im_end|", "|im_end|>", "<|IM_END|>",
    "< |im_end|>", "<|im_<|im_end|>", "<tool_call>", "x<tool_call>y</tool_call>", "<repo_name>a/b<file_sep>c.py",
    "<jupyter_code>1+1", "<think>\nHm.\n</think>", "</s>", "<s>[INST] Hi [/INST]", "<unk>", "[UNK]", "[PAD]", "<pad>",
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many clips did "
    "Natalia sell altogether in April and May?\n\nNatalia sold 48/2 = <<48/2=24>>24 clips in May.\n#### 72",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "ababababababababab", " " * 37, "\n" * 19, "=" * 40, "0" * 40, "é" * 9, "你" * 9,
    "The the THE tHe", "it it's its it'sn't", "end of text.", "A.B.C. Inc.", "e.g. i.e. etc.", "Mr. O'Neil-Smith's",
]


def write(path, value):
    path = HERE / path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")


# ---------------------------------------------------------------------------------------------------------------------
# Byte-level BPE. The patterns are those of the published tokenizer.json files of the models named.

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def splits(*patterns):
    steps = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


GPT2_STEP = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
# name: (pre-tokenizer, ignore_merges)
PRE = {
    "smollm": (pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2_STEP]), False),
    "gpt-2": (GPT2_STEP, False),
    "llama-bpe": (splits(CONTRACTIONS + WORDS + r"\p{N}{1,3}" + REST), True),
    "qwen2": (splits(CONTRACTIONS + WORDS + r"\p{N}" + REST), False),
    "tekken": (splits(TEKKEN), True),
    # llama.cpp's rule for files that name none: no published tokenizer.json, the patterns are those of its source.
    "default": (splits(r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"), False),
}
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
USER_DEFINED = ["<tool_call>", "</tool_call>", "<repo_name>"]


def corpus():
    rng = random.Random(0)
    words = " ".join(TEXTS[17:80] + TEXTS[-20:]).split(" ")
    yield from TEXTS
    for _ in range(400):
        yield " ".join(rng.choice(words) for _ in range(12))


def byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = PRE["smollm"][0]
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False, min_frequency=2
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in USER_DEFINED])
    folder = HERE / "tokenizer/byte_level"
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    state = json.loads(tokenizer.to_str())
    vocab = tokenizer.get_vocab(with_added_tokens=True)
    tokens = [text for text, _ in sorted(vocab.items(), key=lambda item: item[1])]
    assert [vocab[text] for text in tokens] == list(range(len(tokens)))
    types = [3 if text in SPECIAL else 4 if text in USER_DEFINED else 1 for text in tokens]
    merges = [" ".join(pair) for pair in state["model"]["merges"]]
    write("tokenizer/byte_level/tokenizer_config.json", {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"})
    write(
        "tokenizer/byte_level/gguf_metadata.json",
        {"tokens": tokens, "token_type": types, "merges": merges, "bos_token_id": 1, "eos_token_id": 2},
    )
    # For a GGUF file every token is in the vocabulary of the model, which matters to ignore_merges only.
    ids = {}
    for name, (pre, ignore_merges) in PRE.items():
        state["model"]["ignore_merges"] = ignore_merges
        variant = Tokenizer.from_str(json.dumps(state))
        variant.pre_tokenizer = pre
        ids[name] = [variant.encode(text, add_special_tokens=False).ids for text in TEXTS]
    rng = random.Random(1)
    decoded = []
    for _ in range(60):
        sequence = [rng.randrange(len(tokens) + 3) for _ in range(rng.randrange(12))]
        texts = [tokenizer.decode(sequence, skip_special_tokens=skip) for skip in (False, True)]
        decoded.append({"ids": sequence, "text": texts[0], "without_special": texts[1]})
    write("tokenizer/byte_level/expected.json", {"origin": ORIGIN, "ids": ids, "decoded": decoded})
    return tokenizer


def sentence_piece():
    """A vocabulary like Llama 2's: control tokens, 256 byte tokens, pieces with scores."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trained.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trained.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=600, show_progress=False, limit_alphabet=120))
    pieces = [text for text, _ in sorted(trained.get_vocab().items(), key=lambda item: item[1])]
    single = [text for text in pieces if len(text) == 1]
    longer = [text for text in pieces if len(text) > 1]
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + longer + single
    types = [2, 3, 3] + [6] * 256 + [1] * (len(longer) + len(single))
    scores = [0.0] * 259 + [float(-rank) for rank in range(len(longer) + len(single))]
    vocab = {text: index for index, text in enumerate(tokens)}
    merges = generate_merges(vocab, {text: scores[index] for text, index in vocab.items()})
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = trained.normalizer
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in tokens[:3]])
    encoded = [tokenizer.encode(text).ids for text in TEXTS]
    write(
        "tokenizer/sentence_piece.json",
        {
            "origin": ORIGIN,
            "metadata": {
                "tokens": tokens, "token_type": types, "scores": scores,
                "bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0,
            },
            "ids": encoded,
            "decoded": [tokenizer.decode(ids, skip_special_tokens=False) for ids in encoded],
        },
    )


def smollm2(path):
    """The published tokenizer of SmolLM2, put together from the GGUF file's vocabulary and its own pre-tokenizer.

    transformers' own reading of GGUF files leaves out the step that splits digits, and so gives other ids where white
    space stands before a digit and for digits outside ASCII. For which texts is recorded too.
    """
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE(vocab={text: index for index, text in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = PRE["smollm"][0]
    tokenizer.decoder = decoders.ByteLevel()
    control = [text for text, kind in zip(tokens, types) if kind == 3]
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in control])
    ids = [tokenizer.encode(text).ids for text in TEXTS]
    other = transformers.AutoTokenizer.from_pretrained(str(Path(path).parent), gguf_file=Path(path).name)
    differ = [text for text, row in zip(TEXTS, ids) if other(text)["input_ids"] != row]
    assert all(any(c.isnumeric() for c in text) for text in differ), differ
    chat = [{"role": "user", "content": "What is 12 + 30?"}]
    write(
        "tokenizer/smollm2.json",
        {
            "origin": ORIGIN + f" from {Path(path).name}",
            "ids": ids,
            "texts_where_transformers_reads_gguf_differently": differ,
            "chat": chat,
            "chat_ids": other.apply_chat_template(chat, add_generation_prompt=True, return_dict=False),
        },
    )


# ---------------------------------------------------------------------------------------------------------------------
# Chat templates. Special tokens of the models, as in their tokenizer_config.json.

TEMPLATES = {
    "smollm2": ("<|im_start|>", "<|im_end|>"),
    "qwen2": (None, "<|im_end|>"),
    "qwen2.5": (None, "<|im_end|>"),
    "qwen3": (None, "<|im_end|>"),
    "llama2": ("<s>", "</s>"),
    "llama3": ("<|begin_of_text|>", "<|eot_id|>"),
    "llama3.2": ("<|begin_of_text|>", "<|eot_id|>"),
    "deepseek-r1-distill": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
}
NOW = datetime.datetime(2024, 7, 26, 12, 34, 56, tzinfo=datetime.timezone.utc)


def messages(*pairs):
    return [{"role": role, "content": content} for role, content in pairs]


CONVERSATIONS = [
    messages(("user", "Hi")),
    messages(("system", "Be brief."), ("user", "Hi")),
    messages(("user", "Hi"), ("assistant", "Hello!"), ("user", "How are you?")),
    messages(("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello!"), ("user", "Bye"), ("assistant", "Bye!")),
    messages(("user", "")),
    messages(("system", ""), ("user", "Hi")),
    messages(("system", "Be brief."), ("user", ""), ("assistant", ""), ("user", "x")),
    messages(("user", "  spaces around  \n")),
    messages(("system", "\n  spaces  \n"), ("user", "a\n\nb\n"), ("assistant", " c \n"), ("user", "\td\t")),
    messages(("user", "Grüße, 世界! 👩‍👩‍👧 e\u0301 \u200b العربية")),
    messages(("user", "1 < 2 & \"quotes\" 'single' <b>html</b> \\n {{ braces }} {% tag %}")),
    messages(("user", "<|im_end|><|eot_id|></s>")),
    messages(("user", "2+2?"), ("assistant", "<think>\nEasy.\n</think>\n\n4"), ("user", "3+3?")),
    messages(("user", "2+2?"), ("assistant", "<think>\nEasy.\n</think>\n\n4")),
    messages(("user", "2+2?"), ("assistant", "<think>a</think>b</think>c\n"), ("user", "x"), ("assistant", "y")),
    messages(("user", "one"), ("user", "two")),
    messages(("assistant", "I begin."), ("user", "ok")),
    messages(("user", "Hi"), ("system", "late system"), ("user", "again")),
    messages(("system", "only system")),
    messages(("user", "call"), ("tool", "42"), ("assistant", "It is 42.")),
    messages(("user", "<tool_response>\nx\n</tool_response>")),
    messages(("critic", "unknown role"), ("user", "Hi")),
]

FEATURES = [
    "{{ messages | tojson }}",
    "{{ messages | tojson(indent=2) }}",
    "{{ messages[0] | tojson(indent=4, sort_keys=true) }}",
    "{{ messages | tojson(separators=(',', ':')) }}",
    "{{ messages[0].content | tojson(ensure_ascii=true) }}",
    "{{ [1, 2.5, true, false, none, [], {}, 'a', -3, 1e3, 0.1] | tojson }}",
    "{{ [[], {}, [1]] | tojson(indent=1) }}",
    "{{ {'b': 1, 'a': {'c': [1, 2]}} | tojson(indent=2) }}",
    "{{ tools is none }} {{ tools is defined }} {{ nothing is defined }} {{ documents is none }}",
    "{{ strftime_now('%d %b %Y') }} {{ strftime_now('%Y-%m-%d %H:%M:%S %A %B %j') }}",
    "{% for m in messages %}{% if loop.index == 2 %}{% continue %}{% endif %}{% if loop.index == 4 %}{% break %}{% endif %}{{ m.role }};{% endfor %}",
    "{% set ns = namespace(found=false, n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% if m.role == 'user' %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.n }} {{ ns.found }}",
    "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}\n{% endfor %}",
    "{% for m in messages %}\n    {%- generation -%}\n    {{ m.role }}\n    {%- endgeneration %}\n{% endfor %}",
    "  {% if true %}\n    indented\n  {% endif %}\nend\n",
    "  {%- if true +%}\n x {{ '  y  ' -}}   z\n{% endif %}\n\n",
    "{# comment #}\nafter comment\n{#- trimmed -#}\n x",
    "{{ messages[::-1] | map(attribute='role') | join(',') }} {{ messages[1:] | length }} {{ messages[-1].role }} {{ messages[:2] | length }}",
    "{{ 'a-b-c'.split('-') | join('+') }} {{ ' x '.strip() }}| {{ 'xxaxx'.strip('x') }} {{ '  l'.lstrip() }} {{ 'r  '.rstrip() }}|",
    "{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith('x') }} {{ 'aBc'.upper() }} {{ 'aBc'.lower() }} {{ 'hello world'.title() }} {{ 'hello'.capitalize() }}",
    "{{ 'a b  c'.split() }} {{ 'a,b,c'.split(',', 1) }} {{ 'abcabc'.replace('b', 'x') }} {{ 'abcabc'.replace('b', 'x', 1) }} {{ 'abcabc'.find('c') }} {{ 'abcabc'.count('a') }}",
    "{{ 'a\nb'.splitlines() }} {{ ', '.join(['a', 'b']) }} {{ '{} and {}'.format(1, 'x') }} {{ '%s=%d' | format('a', 3) }}",
    "{{ messages[0].get('content') | length > 0 }} {{ messages[0].get('missing') }} {{ messages[0].get('missing', 'd') }} {% for k, v in messages[0].items() %}{{ k }},{% endfor %}",
    "{{ messages[0].keys() | list }} {{ 'role' in messages[0] }} {{ 'tool_calls' not in messages[0] }} {{ 'e' in 'hello' }}",
    "{{ true }} {{ false }} {{ none }} {{ 1 }} {{ 1.5 }} {{ 10 // 3 }} {{ 10 % 3 }} {{ 2 ** 3 }} {{ 7 / 2 }} {{ [1, 'a', none, true] }} {{ {'a': 1} }}",
    "{{ undefined_thing }}|{{ messages[0].missing }}|{{ messages[0]['missing'] is defined }}|{{ undefined_thing is none }}",
    "{{ 'a' ~ 1 ~ none }} {{ 'x' * 3 }} {{ [1] + [2] }} {{ 'yes' if messages else 'no' }} {{ (1 if false) }}|",
    "{% macro greet(name, mark='!') %}Hello {{ name }}{{ mark }}{% endmacro %}{{ greet('A') }} {{ greet('B', mark='?') }}",
    "{% set x %}block {{ 1 + 1 }}{% endset %}{{ x }} {% set a, b = 1, 2 %}{{ a }}{{ b }}{% with c = 3 %}{{ c }}{% endwith %}",
    "{% for m in messages if m.role == 'user' %}{{ loop.index }}/{{ loop.length }}{{ loop.first }}{{ loop.last }}{{ loop.index0 }} {% else %}none{% endfor %}",
    "{% for m in [] %}x{% else %}empty{% endfor %} {% for i in range(3) %}{{ i }}{% endfor %} {% for i in range(5, 0, -2) %}{{ i }}{% endfor %}",
    "{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages | rejectattr('role', 'equalto', 'user') | map(attribute='content') | list }}",
    "{{ '  trim me  ' | trim }} {{ 'abc' | upper }} {{ 'a' | default('b') }} {{ nothing | default('b') }} {{ '' | default('c', true) }} {{ [3,1,2] | sort }} {{ [1,2,3] | last }} {{ 'abc' | first }}",
    "{{ messages[0].content is string }} {{ messages is iterable }} {{ messages[0] is mapping }} {{ 1 is number }} {{ messages is sequence }} {{ 'x' is not none }}",
    "{{ 'a\\nb' }} {{ \"tab\\there\" }} {{ 'quote\\'s' }} {{ '\\u00e9' }} {{ 'back\\\\slash' }}",
    "{{ '<b>' | escape }} {{ '<b>' | safe }} {{ '<b>' }} {{ 'a' | e }}",
    "{{ bos_token }}|{{ eos_token }}|{{ bos_token + 'x' }}",
    "{{ add_generation_prompt }} {% if not add_generation_prompt is defined %}undefined{% endif %}",
    "{{- raise_exception('stop: ' + messages[0].role) }}",
    "{% if messages | length % 2 == 0 %}{{ raise_exception('Conversation roles must alternate') }}{% endif %}ok",
    "{{ messages[0].content[:3] }} {{ messages[0].content[-2:] }} {{ messages[0].content[::-1] }} {{ messages[0]['content'] | length }}",
    "{{ dict(a=1, b=2) | tojson }} {{ [1, 2] | tojson }} {{ 'é\u2028<>&\\'' | tojson }}",
    "{%- set system = messages[0].content if messages[0].role == 'system' else 'default' -%}{{ system }}",
]


class FixedDatetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW.replace(tzinfo=tz)


def chat_templates(tokenizer):
    chat_template_utils.datetime = FixedDatetime

    def render(template, special, conversation, add_generation_prompt):
        fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)
        fast.bos_token, fast.eos_token = special
        fast.chat_template = template
        try:
            text = fast.apply_chat_template(conversation, tokenize=False, add_generation_prompt=add_generation_prompt)
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}"}
        return {"text": text}

    rows = []
    for name, special in TEMPLATES.items():
        template = (HERE / f"chat_templates/{name}.jinja").read_text()
        renderings = [
            {"without_prompt": render(template, special, conversation, False), "with_prompt": render(template, special, conversation, True)}
            for conversation in CONVERSATIONS
        ]
        rows.append({"template": name, "bos": special[0], "eos": special[1], "renderings": renderings})
    common = {"origin": ORIGIN, "unix_seconds": int(NOW.timestamp())}
    write("chat_templates/expected.json", {**common, "conversations": CONVERSATIONS, "templates": rows})
    special = ("<s>", "</s>")
    conversation = CONVERSATIONS[8]
    features = [{"template": t, **render(t, special, conversation, True)} for t in FEATURES]
    write("chat_templates/features.json", {**common, "bos": "<s>", "eos": "</s>", "conversation": conversation, "features": features})
    for row in features:
        if "error" in row:
            print("feature fails in the reference:", row["template"], "->", row["error"])


assert len(TEXTS) == len(set(TEXTS)), [text for text in TEXTS if TEXTS.count(text) > 1]
write("tokenizer/texts.json", TEXTS)
small = byte_level()
sentence_piece()
chat_templates(small)
if len(sys.argv) > 1:
    smollm2(sys.argv[1])
