// Verify reads a published log with Go's own transparency log packages and none of our code.
//
//	verify -vkey VKEY -site DIR [-old CHECKPOINT -consistency HASHES] [-entry FILE -proof FILE]
//
// It checks the signed checkpoint, every entry of every tile, an older checkpoint with the
// consistency proof we gave for it, and a c2sp.org/tlog-proof file. The formats differ from those
// of Go's checksum database in three places only, each marked "differs" below.
package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	log.SetFlags(0)
	vkey := flag.String("vkey", "", "the log's verifier key")
	site := flag.String("site", "", "folder with the published files")
	old := flag.String("old", "", "older checkpoint")
	consistency := flag.String("consistency", "", "consistency proof, one base64 hash a line")
	entry := flag.String("entry", "", "an entry's bytes")
	proof := flag.String("proof", "", "its tlog-proof")
	flag.Parse()

	verifier, err := note.NewVerifier(*vkey)
	check(err)
	newest := openCheckpoint(read(filepath.Join(*site, "checkpoint")), verifier)
	fmt.Printf("checkpoint of %d entries\n", newest.N)
	hashes := tlog.TileHashReader(newest, tiles{*site})
	if newest.N > 0 {
		checkEntries(*site, newest, hashes)
	}
	if *old != "" {
		checkConsistency(openCheckpoint(read(*old), verifier), newest, read(*consistency), hashes)
	}
	if *proof != "" {
		checkProof(read(*proof), read(*entry), verifier)
	}
}

func openCheckpoint(signed []byte, verifier note.Verifier) tlog.Tree {
	opened, err := note.Open(signed, note.VerifierList(verifier))
	check(err)
	// Differs: the first line is the log's origin, not the name of the checksum database.
	origin, rest, _ := strings.Cut(opened.Text, "\n")
	if origin != verifier.Name() {
		log.Fatalf("checkpoint of %q", origin)
	}
	tree, err := tlog.ParseTree([]byte("go.sum database tree\n" + rest))
	check(err)
	return tree
}

// checkEntries compares every published entry with its leaf hash, which the reader authenticates.
func checkEntries(site string, tree tlog.Tree, hashes tlog.HashReader) {
	for first := int64(0); first < tree.N; first += 256 {
		width := tree.N - first
		if width > 256 {
			width = 256
		}
		indexes := make([]int64, width)
		for i := range indexes {
			indexes[i] = tlog.StoredHashIndex(0, first+int64(i))
		}
		leaves, err := hashes.ReadHashes(indexes)
		check(err)
		tile := tlog.Tile{H: 8, L: 0, N: first / 256, W: int(width)}
		for i, record := range bundle(site, tile) {
			if tlog.RecordHash(record) != leaves[i] {
				log.Fatalf("entry %d is not the one that was logged", first+int64(i))
			}
		}
	}
	fmt.Printf("entries and tiles of %d entries\n", tree.N)
}

// bundle reads the entries under a level 0 tile. Differs: tile/entries/N, each entry after its
// length in two bytes.
func bundle(site string, tile tlog.Tile) [][]byte {
	path := strings.Replace(tile.Path(), "tile/8/0/", "tile/entries/", 1)
	data := read(filepath.Join(site, path))
	records := make([][]byte, tile.W)
	for i := range records {
		if len(data) < 2 || len(data) < 2+int(data[0])<<8+int(data[1]) {
			log.Fatalf("%s is too short", path)
		}
		length := int(data[0])<<8 + int(data[1])
		records[i], data = data[2:2+length], data[2+length:]
	}
	if len(data) > 0 {
		log.Fatalf("%s is too long", path)
	}
	return records
}

func checkConsistency(old, newest tlog.Tree, lines []byte, hashes tlog.HashReader) {
	var given tlog.TreeProof = parseHashes(strings.Fields(string(lines)))
	check(tlog.CheckTree(given, newest.N, newest.Hash, old.N, old.Hash))
	made, err := tlog.ProveTree(newest.N, old.N, hashes)
	check(err)
	if fmt.Sprint(made) != fmt.Sprint(given) {
		log.Fatal("Go makes another consistency proof of these tiles")
	}
	fmt.Printf("consistency with %d entries\n", old.N)
}

func checkProof(file, entry []byte, verifier note.Verifier) {
	head, signed, found := bytes.Cut(file, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if !found || len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" {
		log.Fatal("not a tlog-proof")
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
	check(err)
	tree := openCheckpoint(signed, verifier)
	var proof tlog.RecordProof = parseHashes(lines[2:])
	check(tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(entry)))
	fmt.Printf("inclusion of entry %d\n", index)
}

func parseHashes(lines []string) []tlog.Hash {
	hashes := make([]tlog.Hash, len(lines))
	for i, line := range lines {
		decoded, err := base64.StdEncoding.DecodeString(line)
		check(err)
		if copy(hashes[i][:], decoded) != tlog.HashSize || len(decoded) != tlog.HashSize {
			log.Fatal("a hash has 32 bytes")
		}
	}
	return hashes
}

// tiles is a tlog.TileReader over a folder.
type tiles struct{ site string }

func (tiles) Height() int { return 8 }

func (tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(wanted))
	for i, tile := range wanted {
		full := tile
		full.W = 256
		content, err := os.ReadFile(filepath.Join(t.site, path(tile)))
		if errors.Is(err, os.ErrNotExist) {
			// A partial tile may be gone once the full one is there, as in Go's own client.
			content, err = os.ReadFile(filepath.Join(t.site, path(full)))
		}
		if err != nil {
			return nil, err
		}
		if len(content) < tile.W*tlog.HashSize {
			return nil, fmt.Errorf("%s is too short", path(tile))
		}
		data[i] = content[:tile.W*tlog.HashSize]
	}
	return data, nil
}

// Differs: the path does not name the height, which is always 8.
func path(tile tlog.Tile) string {
	return strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
}

func read(path string) []byte {
	content, err := os.ReadFile(path)
	check(err)
	return content
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
