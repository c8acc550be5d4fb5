package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// vault is the directory of what outlives the process but not the boot. Files
// are replaced whole, so a dying agent never leaves half of one.
type vault struct{ dir string }

// openVault makes the directory if it is not there, and empties it when it is
// of another boot.
func openVault(dir, bootID string) (vault, error) {
	v := vault{dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return v, fmt.Errorf("open the agent's directory: %w", err)
	}
	old, err := v.read("boot-id")
	if err == nil && string(old) == bootID {
		return v, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return v, err
	}
	for _, name := range []string{keyFile, certificateFile, ordersFile, outboxDir} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return v, fmt.Errorf("forget the last boot: %w", err)
		}
	}
	return v, v.write("boot-id", []byte(bootID))
}

func (v vault) read(name string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(v.dir, name))
	if err != nil {
		return nil, fmt.Errorf("read the agent's state: %w", err)
	}
	return data, nil
}

func (v vault) write(name string, data []byte) error {
	path := filepath.Join(v.dir, name)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return fmt.Errorf("save the agent's state: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("save the agent's state: %w", err)
	}
	return nil
}

// load reads a file of JSON into to; a file that is not there leaves to alone.
func (v vault) load(name string, to any) error {
	data, err := v.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, to); err != nil {
		return fmt.Errorf("read the agent's state %s: %w", name, err)
	}
	return nil
}

func (v vault) save(name string, from any) error {
	data, err := json.Marshal(from)
	if err != nil {
		return fmt.Errorf("save the agent's state %s: %w", name, err)
	}
	return v.write(name, data)
}
