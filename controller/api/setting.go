package api

import (
	"context"
	"strconv"
	"strings"

	"github.com/ingot-metal/ingot/controller/auth"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/proto/fault"
	"github.com/ingot-metal/ingot/proto/operator"
)

const (
	retentionPrefix = "retention."
	forever         = "forever"
	// maxLimit bounds a limit, in days or rows.
	maxLimit = 1_000_000_000
)

// retentionMeaning says what each limit is of.
var retentionMeaning = map[string]string{
	"event_days":         "days that events are kept; the newest 100 of a machine always are",
	"events_per_machine": "events that are kept of a machine",
	"test_days":          "days that test results are kept",
	"tests_per_machine":  "test results that are kept of a machine",
	"order_days":         "days that orders of ended operations are kept",
	"operation_days":     "days that ended operations are kept; a machine's last one always is",
	"lease_days":         "days that leases are kept after their end",
	"audit_days":         "days that the audit trail is kept",
}

func showLimit(l store.Limit) *operator.Setting {
	text := func(n int) string {
		if n < 0 {
			return forever
		}
		return strconv.Itoa(n)
	}
	return &operator.Setting{Name: retentionPrefix + l.Name, Value: text(l.Value), DefaultValue: text(l.Default), Meaning: retentionMeaning[l.Name]}
}

// SettingList lists the settings, with what is in force.
func (s *Server) SettingList(ctx context.Context, _ *operator.SettingListRequest) (*operator.SettingListResponse, error) {
	limits, err := s.c.Store.RetentionGet(ctx)
	if err != nil {
		return nil, err
	}
	answer := &operator.SettingListResponse{}
	for _, l := range limits {
		answer.Settings = append(answer.Settings, showLimit(l))
	}
	return answer, nil
}

// SettingSet changes one setting.
func (s *Server) SettingSet(ctx context.Context, r *operator.SettingSetRequest) (*operator.Setting, error) {
	name, ok := strings.CutPrefix(r.GetName(), retentionPrefix)
	if _, known := retentionMeaning[name]; !ok || !known {
		return nil, fault.New(fault.NotFound, "no setting is named %.80q: ingot setting list shows all", r.GetName())
	}
	n, err := limitOf(r.GetValue())
	if err != nil {
		return nil, err
	}
	if err := s.c.Store.RetentionSet(ctx, name, n, auth.Actor(ctx)); err != nil {
		return nil, err
	}
	limits, err := s.c.Store.RetentionGet(ctx)
	for _, l := range limits {
		if l.Name == name {
			return showLimit(l), err
		}
	}
	return nil, err
}

// limitOf reads a value: -1 is for ever, and 0 the default.
func limitOf(word string) (int, error) {
	switch word {
	case forever:
		return -1, nil
	case "default":
		return 0, nil
	}
	n, err := strconv.ParseUint(word, 10, 32)
	if err != nil || n == 0 || n > maxLimit {
		return 0, fault.New(fault.Invalid, "value %.40q: want a whole number from 1 to %d, forever or default", word, maxLimit)
	}
	return int(n), nil
}
