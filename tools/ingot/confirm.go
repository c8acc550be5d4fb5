package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"
)

// errNotConfirmed: a person was asked and did not say yes.
var errNotConfirmed = errors.New("not done, as you wished")

// confirm asks on the terminal. Without one it names the flag that says yes.
func (c *cli) confirm(question, flag string) error {
	terminal, err := c.terminal()
	if err != nil {
		return usageError{fmt.Errorf("%s There is no terminal to ask on: say %s", question, flag)}
	}
	fmt.Fprintf(c.errOut, "%s [y/N] ", question)
	line, err := bufio.NewReader(terminal).ReadString('\n')
	if err != nil {
		return errNotConfirmed
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return errNotConfirmed
}

// password asks for one on the terminal, unseen.
func (c *cli) password(question string) (string, error) {
	terminal, err := c.terminal()
	if err != nil {
		return "", err
	}
	fmt.Fprint(c.errOut, question)
	word, err := term.ReadPassword(int(terminal.Fd()))
	fmt.Fprintln(c.errOut)
	return string(word), err
}

// terminal is standard input if a person sits there.
func (c *cli) terminal() (*os.File, error) {
	f, ok := c.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, errors.New("standard input is no terminal")
	}
	return f, nil
}
