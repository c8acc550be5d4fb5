package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// serial is the number burnt in, as the kernel knows it: a file of its own for
// virtio and NVMe, VPD page 80h for what speaks SCSI (SPC-4 section 7.8.14).
func serial(dir string) string {
	if s := firstOf(text(dir, "serial"), text(dir, "device/serial")); s != "" {
		return s
	}
	page, err := os.ReadFile(filepath.Join(dir, "device/vpd_pg80"))
	if err != nil || len(page) < 4 || page[1] != 0x80 {
		return ""
	}
	length := int(page[2])<<8 | int(page[3])
	return clean(string(page[4:min(len(page), 4+length)]))
}

// wwn is the name that is unique in the world, in the form of udev's ID_WWN.
// Names of type T10 are made of vendor, model and serial and are left out.
func wwn(dir string) string {
	id := firstOf(text(dir, "device/wwid"), text(dir, "wwid"))
	if strings.Contains(dir, "/nvme") {
		id = firstOf(text(dir, "wwid"), id)
	}
	if hex, ok := strings.CutPrefix(id, "naa."); ok {
		return "0x" + hex
	}
	if strings.HasPrefix(id, "t10.") || strings.Contains(id, " ") {
		return ""
	}
	return id
}

func transport(dir, name string) string {
	if t := text(dir, "device/transport"); t != "" && strings.HasPrefix(name, "nvme") {
		return t // pcie, tcp, rdma, fc
	}
	for _, t := range []struct{ part, name string }{
		{"/usb", "usb"}, {"/ata", "sata"}, {"/end_device-", "sas"}, {"/rport-", "fc"}, {"/session", "iscsi"},
		{"/mmc_host/", "mmc"}, {"/nvme", "pcie"}, {"/virtio", "virtio"}, {"/host", "scsi"},
	} {
		if strings.Contains(dir, t.part) {
			return t.name
		}
	}
	return ""
}

var (
	pciAddress = regexp.MustCompile(`/([0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])(?:/|$)`)
	scsiHCTL   = regexp.MustCompile(`/host(\d+)/.*/(\d+):(\d+):(\d+):(\d+)/`)
	nvmeName   = regexp.MustCompile(`^nvme\d+n(\d+)$`)
	ataPort    = regexp.MustCompile(`^(.*/ata(\d+))/`)
	usbPort    = regexp.MustCompile(`/usb\d+/(?:[^/]+/)*\d+-([0-9.]+):(\d+\.\d+)/`)
)

// byPath names the place that the disk is plugged into, as udev's path_id does,
// below /dev/disk; empty where that is not known.
func byPath(dir string) string {
	all := pciAddress.FindAllStringSubmatch(dir, -1)
	if len(all) == 0 {
		return ""
	}
	pci := "by-path/pci-" + all[len(all)-1][1]
	if m := nvmeName.FindStringSubmatch(filepath.Base(dir)); m != nil {
		return pci + "-nvme-" + m[1]
	}
	if m := ataPort.FindStringSubmatch(dir); m != nil {
		port := firstOf(text(m[1], "ata_port/ata"+m[2]+"/port_no"), m[2])
		return pci + "-ata-" + port
	}
	if m := scsiHCTL.FindStringSubmatch(dir); m != nil {
		scsi := fmt.Sprintf("-scsi-%d:%s:%s:%s", hostOffset(dir, m[1]), m[3], m[4], m[5])
		if u := usbPort.FindStringSubmatch(dir); u != nil {
			return pci + "-usb-0:" + u[1] + ":" + u[2] + scsi
		}
		return pci + scsi
	}
	if strings.Contains(dir, "/virtio") {
		return pci
	}
	return ""
}

// hostOffset counts a SCSI host from the lowest of its controller: the kernel's
// own number depends on the order in which drivers came up.
func hostOffset(dir, number string) int {
	own, err := strconv.Atoi(number)
	if err != nil {
		return 0
	}
	at := strings.Index(dir, "/host"+number+"/")
	entries, err := os.ReadDir(dir[:at])
	if err != nil {
		return 0
	}
	lowest := own
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), "host")
		if n, err := strconv.Atoi(rest); ok && err == nil {
			lowest = min(lowest, n)
		}
	}
	return own - lowest
}
