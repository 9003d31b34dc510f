"""How to check a bundle with OpenSSL 3 and a POSIX shell, for readers who run none of our code.

The text is `README.txt` of every bundle. Indented lines are commands; a test unpacks a bundle, runs
exactly those lines with the system's own tools, and runs them again on tampered bundles.
"""

import base64
import shlex
from typing import Final

from latentlog.evidence.bundle import MANIFEST_TYPE
from latentlog.evidence.dsse import SPKI_PREFIX
from latentlog.ledger.keys import PublicKey
from latentlog.ledger.note import NoteVerifier

VERIFY: Final = "openssl pkeyutl -verify -pubin -rawin"

_README: Final = r"""This folder holds one finding about one file, and everything needed to check it
without the program that made it.

  report.pdf              the finding, for people
  statement.dsse.json     the finding with every measurement, signed by the examiner
  manifest.dsse.json      the digest of every other file here, signed by the examiner
  ledger/                 the log's signed checkpoint, the cited entries and their proofs
  openings/               what opens the commitments of a cited generation, where shown
  exhibits/, figures/     the examined file, unchanged, and the pictures in the report

You need OpenSSL 3 and a POSIX shell (Linux, macOS, or WSL on Windows). Unpack the bundle, open a
shell in its folder, read each indented line below before you type it. Nothing uses the network.

The keys below came with the bundle, so they show that the bundle is whole, not who made it.
Compare them with the keys you got from the log's operator and from the examiner themselves.


1. The keys

    pem() {{ printf '%s\n' '-----BEGIN PUBLIC KEY-----' $1 '-----END PUBLIC KEY-----'; }}
    pem {examiner} > examiner.pem
    pem {log} > log.pem

2. The examiner signed the statement; statement.json is the text that was signed

    part() {{ sed "s/.*\"$1\":\"\([^\"]*\)\".*/\1/" $2.dsse.json | openssl base64 -d -A; }}
    part payload statement > statement.json
    part sig statement > statement.sig
    printf 'DSSEv1 28 application/vnd.in-toto+json %d ' $(wc -c < statement.json) > statement.pae
    cat statement.json >> statement.pae
    {verify} -inkey examiner.pem -in statement.pae -sigfile statement.sig

3. The examiner signed the list of files, and no file has changed since

    part payload manifest > manifest.json
    part sig manifest > manifest.sig
    printf 'DSSEv1 39 {manifest_type} %d ' $(wc -c < manifest.json) > manifest.pae
    cat manifest.json >> manifest.pae
    {verify} -inkey examiner.pem -in manifest.pae -sigfile manifest.sig
    tr '{{' '\n' < manifest.json |
      sed -n 's/^"path":"\([^"]*\)","sha256":"\([0-9a-f]*\)".*/\2  \1/p' > files.sha256
    sha256sum -c files.sha256

   (macOS: shasum -a 256 -c files.sha256)

4. The log signed its checkpoint: its name, the number of its entries, and their root hash

    head -n 3 ledger/checkpoint.note > checkpoint.txt
    awk -v origin={origin} '$2 == origin {{ print $3; exit }}' ledger/checkpoint.note |
      openssl base64 -d -A | tail -c 64 > checkpoint.sig
    {verify} -inkey log.pem -in checkpoint.txt -sigfile checkpoint.sig

5. Each cited entry is in that log: its path leads to the checkpoint's root hash (RFC 9162, 2.1.3.2)

    hash() {{ openssl dgst -sha256 -binary; }}
    included() {{
      f=$1; s=$(( $(sed -n 2p ledger/checkpoint.note) - 1 ))
      {{ printf '\0'; cat ledger/entries/$1.json; }} | hash > node
      for p in $(sed -n '3,/^$/p' ledger/entries/$1.tlog-proof); do
        printf '%s' "$p" | openssl base64 -d -A > other
        if [ $((f % 2)) -eq 1 ] || [ $f -eq $s ]; then
          {{ printf '\1'; cat other node; }} | hash > up
          while [ $((f % 2)) -eq 0 ] && [ $f -gt 0 ]; do f=$((f / 2)); s=$((s / 2)); done
        else
          {{ printf '\1'; cat node other; }} | hash > up
        fi
        mv up node; f=$((f / 2)); s=$((s / 2))
      done
      test $s -eq 0 && test "$(openssl base64 -A < node)" = "$(sed -n 3p ledger/checkpoint.note)"
    }}
    for e in ledger/entries/*.json; do
      n=$(basename $e .json)
      if included $n; then echo "entry $n: included"; else echo "entry $n: NOT INCLUDED"; exit 1; fi
    done

Other programs read these files too: notes and proofs follow c2sp.org/signed-note, tlog-checkpoint
and tlog-proof (in Go: golang.org/x/mod/sumdb/note), the statement is an in-toto Statement in a DSSE
envelope, the report is PDF/A-3a.

What these commands do not redo: the measurements themselves, the bound computed from them, and the
decision drawn from both. "latentlog verify" redoes the last two on any computer; the first
needs the model and the log's disclosed keys.
"""


def format_readme(examiner: PublicKey, log: NoteVerifier) -> bytes:
    """Write the instructions for a bundle signed by `examiner` about `log`."""
    return _README.format(
        examiner=_subject_public_key(examiner),
        log=_subject_public_key(log.key),
        origin=shlex.quote(log.name),
        verify=VERIFY,
        manifest_type=MANIFEST_TYPE,
    ).encode()


def statement_commands(examiner: PublicKey, log: NoteVerifier) -> list[str]:
    """Return the commands of parts 1 and 2: what checks the statement's signature."""
    text = format_readme(examiner, log).decode()
    part = text[text.index("\n1. ") : text.index("\n3. ")]
    lines = [line[4:] for line in part.splitlines() if line.startswith("    ")]
    return [line for line in lines if "log.pem" not in line]


def _subject_public_key(key: PublicKey) -> str:
    """Return what stands between the lines of a PEM public key."""
    return base64.b64encode(SPKI_PREFIX + key.encoded).decode()
