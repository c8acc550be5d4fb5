package main

import (
	"cmp"
	"fmt"

	"github.com/ingot-metal/ingot/proto/operator"
)

// holds says what a disk may hold of an owner's; "" when nothing.
func holds(d *operator.DiskData) string {
	if d == nil {
		return ""
	}
	how := "within reach of"
	if d.GetWritten() {
		how = "written by"
	}
	return fmt.Sprintf("%s %s in %s, %s", how, d.GetOperationId(), d.GetMachineId(), clock(d.GetSince()))
}

// diskName is what a disk is called by: its serial, else its WWN.
func diskName(d interface {
	GetSerial() string
	GetWwn() string
}) string {
	return cmp.Or(d.GetSerial(), d.GetWwn())
}
