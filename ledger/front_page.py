"""The page that a published log greets people with: what it is, and how to check it without us.

One file without scripts, fonts or anything fetched from elsewhere, so that it is the same wherever
it is mirrored and opens from a disk. It is not signed and says so: what it states is for people,
what is checked are the checkpoint and the files below it.
"""

import base64
import shlex
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from html import escape
from typing import Final

from latentlog.ledger.checkpoint import Checkpoint
from latentlog.ledger.codec import format_time
from latentlog.ledger.entry import ModelEntry, RecorderEntry
from latentlog.ledger.keys import PublicKey
from latentlog.ledger.note import NoteVerifier

# An Ed25519 SubjectPublicKeyInfo (RFC 8410 section 4) is this and the 32 bytes of the key.
_SPKI: Final = bytes.fromhex("302a300506032b6570032100")


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontPage:
    """What the page states."""

    operator: str
    contact: str | None
    verifier: NoteVerifier
    checkpoint: Checkpoint
    sealed: datetime | None
    """When the newest entry was sealed, by the log's own clock."""
    written: datetime
    models: Sequence[tuple[int, ModelEntry]]
    not_covered: Sequence[str]
    recorders: Sequence[RecorderEntry]
    epochs: int
    epochs_closed: int


def public_key_pem(key: PublicKey) -> str:
    """Return a key in the form that openssl reads."""
    encoded = base64.b64encode(_SPKI + key.encoded).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{encoded}\n-----END PUBLIC KEY-----\n"


def fingerprint(key: PublicKey) -> str:
    """Return the SHA-256 of a key's DER encoding, as `openssl pkey -outform DER` gives it."""
    return sha256(_SPKI + key.encoded).hexdigest()


def render(page: FrontPage) -> str:
    """Write the page; every text that comes from elsewhere is escaped."""
    origin = page.verifier.name
    sections = (
        _introduction(page),
        _newest(page),
        _keys(page),
        _models(page),
        _recorders(page),
        _checking(page),
        _limits(),
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
        "form-action 'none'\">\n"
        f"<title>Log {_text(origin)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"{''.join(sections)}</main>\n</body>\n</html>\n"
    )


def _introduction(page: FrontPage) -> str:
    contact = f"<dt>Contact</dt><dd>{_text(page.contact)}</dd>\n" if page.contact else ""
    return (
        f"<h1>{_text(page.verifier.name)}</h1>\n"
        "<p>This is a public log. Its operator runs generative models and records here, as it "
        "happens, every latent that is taken from a secret schedule to make a picture. What is "
        "recorded cannot be changed or taken out later unnoticed by those who kept an earlier "
        "checkpoint.</p>\n"
        f"<dl>\n<dt>Operator</dt><dd>{_text(page.operator)}</dd>\n{contact}"
        f"<dt>Name of the log (origin)</dt><dd>{_code(page.verifier.name)}</dd>\n</dl>\n"
    )


def _newest(page: FrontPage) -> str:
    tree = page.checkpoint
    closed = f"{page.epochs_closed:,} closed" if page.epochs else "none yet"
    return (
        '<h2 id="newest">The newest checkpoint</h2>\n<dl>\n'
        f"<dt>Entries</dt><dd>{tree.size:,}</dd>\n"
        f"<dt>Epochs (spans of latents under one key)</dt><dd>{page.epochs:,} ({closed})</dd>\n"
        f"<dt>Newest entry sealed</dt><dd>{_sealed(page)}</dd>\n"
        f"<dt>This page written</dt><dd>{_time(page.written)}</dd>\n"
        f"<dt>Root hash</dt><dd>{_code(base64.b64encode(tree.root).decode())}</dd>\n</dl>\n"
        "<p>A page like this cannot know what time it is where you read it. If the times above "
        "are older than the operator leads you to expect, the log may have stopped, or you may be "
        "looking at an old copy.</p>\n"
        '<p>The signed checkpoint itself: <a href="checkpoint">checkpoint</a>.</p>\n'
    )


def _sealed(page: FrontPage) -> str:
    if page.sealed is None:
        return "never: the log is empty"
    age = page.written - page.sealed
    return f"{_time(page.sealed)}, {_age(age)} before this page was written"


def _keys(page: FrontPage) -> str:
    key = page.verifier.key
    return (
        '<h2 id="keys">The log’s key</h2>\n'
        "<p>Compare it with one that you got elsewhere: from the operator’s own site, an earlier "
        "visit, a contract, a court file. Whoever could replace this page could also print another "
        "key on it.</p>\n<dl>\n"
        f"<dt>Verifier key (C2SP)</dt><dd>{_code(page.verifier.vkey)}</dd>\n"
        f"<dt>SHA-256 fingerprint (DER)</dt><dd>{_code(fingerprint(key))}</dd>\n"
        f"<dt>For openssl</dt><dd><pre>{_text(public_key_pem(key))}</pre></dd>\n</dl>\n"
    )


def _models(page: FrontPage) -> str:
    rows = [
        (_text(m.name), _text(m.generator_kind), _code(m.digest.hex()), f"{index:,}")
        for index, m in page.models
    ]
    covered = _table(
        "Models whose latents are recorded here",
        ("Name", "Kind", "Digest", "Entry"),
        rows,
        "No model is registered yet.",
    )
    items = "".join(f"<li>{_text(name)}</li>\n" for name in page.not_covered)
    others = (
        f"<p>The operator states that these are not covered:</p>\n<ul>\n{items}</ul>\n"
        if page.not_covered
        else "<p>The operator names no model that is not covered. That is no statement that there "
        "is none.</p>\n"
    )
    return f'<h2 id="models">Models covered, and not covered</h2>\n{covered}{others}'


def _recorders(page: FrontPage) -> str:
    rows = [(_text(r.name), _text(r.state), _code(r.key.hex())) for r in page.recorders]
    table = _table(
        "Who seals entries, besides the operator",
        ("Name", "State", "Ed25519 key"),
        rows,
        "No recorder is registered yet.",
    )
    return f'<h2 id="recorders">Recorders</h2>\n{table}'


def _checking(page: FrontPage) -> str:
    commands = _COMMANDS.replace("ORIGIN", shlex.quote(page.verifier.name))
    audit = f"latentlog audit --tiles ADDRESS-OF-THIS-PAGE --vkey {shlex.quote(page.verifier.vkey)}"
    return (
        '<h2 id="checking">How to check</h2>\n'
        "<p><strong>The signature, with openssl 3.</strong> Save the key above as <code>log.pem"
        '</code> and the <a href="checkpoint">checkpoint</a>, then:</p>\n'
        f'<pre id="openssl">{_text(commands)}</pre>\n'
        "<p><strong>Everything, with our open-source tool</strong>, which recomputes every hash, "
        "seal and counter from these files, and with <code>--since</code> whether the log still "
        "extends a checkpoint that you kept:</p>\n"
        f"<pre>{_text(audit)}</pre>\n"
        "<p><strong>With anybody’s tools.</strong> The files follow public specifications: "
        '<a href="https://c2sp.org/tlog-tiles">tlog-tiles</a>, '
        '<a href="https://c2sp.org/tlog-checkpoint">tlog-checkpoint</a>, '
        '<a href="https://c2sp.org/signed-note">signed-note</a> and RFC 6962. The Go packages '
        '<a href="https://pkg.go.dev/golang.org/x/mod/sumdb/note">note</a> and '
        '<a href="https://pkg.go.dev/golang.org/x/mod/sumdb/tlog">tlog</a> verify them.</p>\n'
        "<p><strong>Keep the checkpoint.</strong> Two checkpoints of this log that contradict each "
        "other, both signed, show that it was forked. Only people who kept an earlier one can "
        "notice.</p>\n"
    )


def _limits() -> str:
    return (
        '<h2 id="limits">What this does not show</h2>\n<ul>\n'
        "<li>Pictures made without taking their latent from the schedule are not in the log.</li>\n"
        "<li>Entries hold salted commitments: no picture, prompt, seed or latent can be read from "
        "them. They do show how much was made, when, and with which model.</li>\n"
        "<li>This page is not signed; the checkpoint is.</li>\n</ul>\n"
    )


def _table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> str:
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>\n'
        for first, *rest in rows
    )
    if not body:
        return f"<p>{empty}</p>\n"
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return (
        # A table that is too wide scrolls: also by keyboard, and under its name.
        f'<div class="wide" role="region" aria-label="{caption}" tabindex="0">\n<table>\n'
        f"<caption>{caption}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}</tbody>\n</table>\n</div>\n"
    )


def _text(text: str) -> str:
    return escape(text, quote=True)


def _code(text: str) -> str:
    return f"<code>{_text(text)}</code>"


def _time(time: datetime) -> str:
    stamp = format_time(time)
    return f'<time datetime="{stamp}">{stamp.replace("T", " ").removesuffix("Z")} UTC</time>'


def _age(age: timedelta) -> str:
    """Write a span of time in its largest unit; a clock that went backwards gives none."""
    seconds = max(0, int(age.total_seconds()))
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if count := seconds // length:
            return f"{count:,} {unit}{'' if count == 1 else 's'}"
    return "less than a minute"


_COMMANDS: Final = textwrap.dedent("""\
    sed '/^$/,$d' checkpoint > text
    awk -v origin=ORIGIN '$1 == "—" && $2 == origin {print $3; exit}' checkpoint |
        base64 -d | tail -c 64 > signature
    openssl pkeyutl -verify -pubin -inkey log.pem -rawin -in text -sigfile signature
    """)

_STYLE: Final = textwrap.dedent("""
    :root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --faint: #595959;
      --line: #c9c9c9; --link: #0b4fa8; }
    @media (prefers-color-scheme: dark) { :root { --ink: #ececec; --paper: #161616;
      --faint: #b0b0b0; --line: #4a4a4a; --link: #8ab8ff; } }
    body { color: var(--ink); background: var(--paper); margin: 0;
      font: 1.05rem/1.55 system-ui, sans-serif; }
    main { max-width: 46rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
    h1 { font-size: 1.7rem; overflow-wrap: anywhere; }
    h2 { font-size: 1.2rem; margin-top: 2.5rem; border-top: 1px solid var(--line);
      padding-top: 1.25rem; }
    a { color: var(--link); }
    dt { color: var(--faint); font-size: .9rem; margin-top: .6rem; }
    dd { margin: 0; }
    code, pre { font: .88em/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
    pre { white-space: pre-wrap; border: 1px solid var(--line); padding: .75rem; margin: .4rem 0; }
    .wide { overflow-x: auto; }
    table { border-collapse: collapse; width: 100%; font-size: .95rem; }
    caption { text-align: left; color: var(--faint); font-size: .9rem; padding: .3rem 0; }
    th, td { text-align: left; vertical-align: top; padding: .4rem .8rem .4rem 0;
      border-bottom: 1px solid var(--line); }
    """)
