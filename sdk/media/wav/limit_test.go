package wav

import (
	"bytes"
	"errors"
	"testing"
)

func TestReadAtMost(t *testing.T) {
	var file bytes.Buffer
	if err := WriteMuLaw(&file, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if _, err := readAtMost(bytes.NewReader(file.Bytes()), file.Len()); err != nil {
		t.Errorf("a file as long as the limit: %v", err)
	}
	if _, err := readAtMost(bytes.NewReader(file.Bytes()), file.Len()-1); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a file longer than the limit: error is %v, want %v", err, ErrTooLarge)
	}
}
