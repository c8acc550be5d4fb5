package machine

import (
	"regexp"
	"strings"
)

// Reason is a code of the catalogue: why a machine stopped. Empty means nothing
// is wrong.
type Reason string

// Reasons. Agents send them by these codes too; a code that is not in the
// catalogue is shown as ReasonUnknown with its text.
const (
	ReasonNone             Reason = ""
	ReasonUnknown          Reason = "unknown"
	ReasonDeadline         Reason = "deadline_passed"
	ReasonCancelled        Reason = "cancelled"
	ReasonNotApproved      Reason = "not_approved"
	ReasonNonceOtherKey    Reason = "nonce_claimed_with_another_key"
	ReasonIdentityConflict Reason = "identity_conflict"
	ReasonNoBMC            Reason = "no_bmc"
	ReasonBMCUnreachable   Reason = "bmc_unreachable"
	ReasonBMCCredentials   Reason = "bmc_wrong_password"
	ReasonBMCIgnored       Reason = "bmc_ignored_request"
	ReasonBMCCertificate   Reason = "bmc_certificate_changed"
	ReasonBMCUnsupported   Reason = "bmc_unsupported"
	ReasonBMCProtocol      Reason = "bmc_wrong_answer"
	ReasonNoAgent          Reason = "agent_did_not_come"
	ReasonAgentSilent      Reason = "agent_silent"
	ReasonLoaderSilence    Reason = "loader_fetched_then_silence"
	ReasonNoDisks          Reason = "no_disks"
	ReasonDiskGone         Reason = "disk_gone"
	ReasonDiskAmbiguous    Reason = "disk_ambiguous"
	ReasonDiskTooSmall     Reason = "image_larger_than_disk"
	ReasonSectorSize       Reason = "sector_size_differs"
	ReasonDiskError        Reason = "disk_error"
	ReasonDiskConflict     Reason = "other_disk_bears_image_ids"
	ReasonImageDigest      Reason = "image_digest_wrong"
	ReasonImageGone        Reason = "image_source_gone"
	ReasonSignatureMissing Reason = "image_signature_missing"
	ReasonSignatureForeign Reason = "image_signature_untrusted"
	ReasonSignatureWrong   Reason = "image_signature_wrong"
	ReasonImageLayout      Reason = "image_layout_unsupported"
	ReasonBootOrder        Reason = "boot_order_not_set"
	ReasonTestFailed       Reason = "hardware_test_failed"
	ReasonInventory        Reason = "inventory_incomplete"
	ReasonSystemSilent     Reason = "installed_system_silent"
	ReasonDiskHoldsData    Reason = "disk_holds_data"
	ReasonDiskOther        Reason = "other_disk_written"
	ReasonDiskLost         Reason = "disk_lost_with_data"
	ReasonEraseUnverified  Reason = "erase_not_verified"
	ReasonAgentError       Reason = "agent_error"
	ReasonPersonNeeded     Reason = "waits_for_a_person"
)

// Cause is one row of the catalogue.
type Cause struct {
	Reason Reason
	// Sentence says what is wrong; Next what the operator can do.
	Sentence string
	Next     string
}

// Catalogue has one row for each reason.
var Catalogue = []Cause{
	{ReasonUnknown, "Something stopped this machine that has no name yet; the detail is all there is.", "Read the events: ingot events --machine ID. Then ask again for what you wanted."},
	{ReasonDeadline, "The state lasted longer than its limit.", "Read the last events to see what it waited for, then ask again for what you wanted."},
	{ReasonCancelled, "The operation was cancelled.", "Ask for what you want next."},
	{ReasonNotApproved, "The machine is not approved.", "ingot machine approve ID"},
	{ReasonNonceOtherKey, "Its boot session was claimed a second time with another key: somebody else on that segment may pose as this machine.", "Look at the segment and the events. Then start it afresh: ingot machine commission ID"},
	{ReasonIdentityConflict, "It shares an identity (UUID or serial) with another machine; its network addresses decided.", "Correct the UUID or serial in the firmware of one of them."},
	{ReasonNoBMC, "No BMC is set, so its power cannot be driven.", "ingot bmc set ID --url … --user … --password-file …, or power it on by hand."},
	{ReasonBMCUnreachable, "Its BMC does not answer.", "Check cable, address and firewall: ingot bmc test ID"},
	{ReasonBMCCredentials, "Its BMC refuses the user or password.", "ingot bmc set ID --url … --user … --password-file …"},
	{ReasonBMCIgnored, "Its BMC said yes and did nothing; what was read back is not what was asked.", "A restart of the BMC was tried, as the detail says. Update its firmware, or take the power cord out for a minute; then repeat."},
	{ReasonBMCCertificate, "Its BMC shows another certificate than the pinned one.", "If you replaced it: ingot bmc set ID … --certificate NEW; if not, look for an intruder."},
	{ReasonBMCUnsupported, "Its BMC or power driver cannot do what is needed.", "See the detail; do it by hand, or use another driver."},
	{ReasonBMCProtocol, "Its BMC gave an answer that makes no sense.", "ingot bmc test ID; reset the BMC if it stays so."},
	{ReasonNoAgent, "It was powered on and no agent came: nothing was seen of it on the network, or its boot stopped half-way.", "See how far it came: ingot events --machine ID; look at its console."},
	{ReasonAgentSilent, "Its agent was connected and fell silent.", "Look at its console; power it off and repeat."},
	{ReasonLoaderSilence, "It fetched the loader and then nothing more; Secure Boot refusing an unsigned loader looks like this.", "Switch Secure Boot off, or give a signed loader."},
	{ReasonNoDisks, "It has no disk to write to.", "Fit a disk, then: ingot machine commission ID"},
	{ReasonDiskGone, "The disk that was to be written is no longer there.", "Check the disk, then: ingot machine commission ID"},
	{ReasonDiskAmbiguous, "The disk asked for matches more than one disk.", "Name it by a serial or WWN that is its own."},
	{ReasonDiskTooSmall, "The image is larger than the disk.", "Choose a larger disk: --disk SERIAL, or a smaller image."},
	{ReasonSectorSize, "The image is made for another sector size than the disk has.", "Import an image made for this sector size, or choose another disk."},
	{ReasonDiskError, "The disk reported an error while it was written, read or erased.", "Replace the disk named in the detail, then: ingot machine commission ID"},
	{ReasonDiskConflict, "Another disk bears the same partition or filesystem ids as the image, so the wrong one could be booted.", "Repeat with --wipe-conflicting, or remove that disk."},
	{ReasonImageDigest, "What arrived is not what the image's manifest promises.", "Import the image again, then repeat."},
	{ReasonImageGone, "The image could not be fetched.", "Check that the controller holding it is up: ingot image list"},
	{ReasonSignatureMissing, "Only signed images may be written to it, and the image is not signed.", "Have it signed by a key that is trusted: ingot image sign IMAGE --key FILE; then repeat."},
	{ReasonSignatureForeign, "Only signed images may be written to it, and no trusted key has signed the image.", "Compare ingot image show IMAGE with ingot image trust list; have it signed by a key that is trusted."},
	{ReasonSignatureWrong, "The image bears a signature that is not one of this image, though it names a trusted key.", "Do not use the image: it, or its signature, was changed. Import it again from its source, and sign that."},
	{ReasonImageLayout, "The image's partition layout cannot be deployed.", "See the detail; the image must have a GPT."},
	{ReasonBootOrder, "The firmware's boot order could not be set.", "Set the disk first in the firmware's setup, then repeat."},
	{ReasonTestFailed, "A hardware test failed.", "See ingot machine show ID; replace the part, then commission again."},
	{ReasonInventory, "The inventory lacks something that is needed.", "See the collection's errors: GET /v1/machines/ID/collection"},
	{ReasonSystemSilent, "The installed system did not report, after a restart too.", "Look at its console; check that the image runs cloud-init, or deploy with --proof none."},
	{ReasonDiskHoldsData, "A disk may still hold what an earlier owner left, so the machine is not free.", "Erase it: ingot machine release ID --erase; or, when that was done by other means: ingot machine commission ID --vouch SERIAL"},
	{ReasonDiskOther, "The agent wrote another disk than the one that was ordered.", "Look at both disks, which the detail names. Then erase them: ingot machine release ID --erase"},
	{ReasonDiskLost, "A disk that holds what an owner left is no longer in the machine.", "Put it back, then: ingot machine release ID --erase; or, when it is destroyed: ingot machine commission ID --vouch SERIAL"},
	{ReasonEraseUnverified, "An erased disk still had data when it was read back.", "Repeat the release; or take the disk named in the detail out and destroy it, then: ingot machine commission ID --vouch SERIAL"},
	{ReasonAgentError, "The agent could not do its job.", "See the detail, and the agent's lines in the controller's log; then repeat."},
	{ReasonPersonNeeded, "It waits for a person's hand.", "See the detail."},
}

// CauseOf finds the row of a reason; an unknown code gives the row of
// ReasonUnknown.
func CauseOf(r Reason) Cause {
	for _, c := range Catalogue {
		if c.Reason == r {
			return c
		}
	}
	return Catalogue[0]
}

// OfBMC reports whether a reason is about a machine's BMC.
func (r Reason) OfBMC() bool { return r == ReasonNoBMC || strings.HasPrefix(string(r), "bmc_") }

// idWord stands for the machine in the commands and paths of Next.
var idWord = regexp.MustCompile(`\bID\b`)

// NextFor is Next with the machine named, where ID stands for it.
func (c Cause) NextFor(id ID) string { return idWord.ReplaceAllLiteralString(c.Next, string(id)) }

// Known reports whether r stands in the catalogue.
func Known(r Reason) bool { return CauseOf(r).Reason == r }
