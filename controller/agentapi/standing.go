package agentapi

import (
	"context"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/proto/agent"
)

// shown is what a machine's own console shows of how it stands.
type shown struct{ state, next, name string }

func shownBy(w *agent.Welcome) shown {
	return shown{w.GetMachineState(), w.GetNextStep(), w.GetMachineName()}
}

// follow ends the stream when it is not the machine's any more, and greets the
// agent anew when what its console shows is no longer true.
func (st *stream) follow(ctx context.Context) error {
	at, err := st.server.Store.AgentStanding(ctx, st.agent.id)
	if err != nil {
		return st.passing(err, "look how the machine stands")
	}
	switch {
	case at.BootGeneration != st.agent.generation || at.Stream != st.number:
		return errReplaced
	case !at.Online:
		return errTaken
	}
	st.pace.trust(at.Approved)
	m := welcomeOf(st.agent.id, at)
	if now := shownBy(m.GetWelcome()); now != st.shown {
		st.shown = now
		return st.wire.Send(m)
	}
	return nil
}

func welcomeOf(id machine.ID, at store.Standing) *agent.ToAgent {
	return &agent.ToAgent{Message: &agent.ToAgent_Welcome{Welcome: &agent.Welcome{
		ControllerTime: timestamppb.Now(), AliveInterval: durationpb.New(aliveInterval), AcknowledgedSequence: at.Stored,
		MachineState: stateWord(at), NextStep: nextStep(id, at), MachineName: at.Hostname,
	}}}
}

// stateWord is the state, with the outcome where that is news.
func stateWord(at store.Standing) string {
	if at.Outcome == machine.OutcomeFailed || at.Outcome == machine.OutcomeCancelled {
		return string(at.State) + " (" + string(at.Outcome) + ")"
	}
	return string(at.State)
}

// nextStep is what a person at the machine should do next.
func nextStep(id machine.ID, at store.Standing) string {
	rule, _ := machine.RuleOf(at.State)
	switch {
	case !at.Approved:
		return "ingot machine approve " + string(id)
	case at.Reason != machine.ReasonNone && at.Outcome != machine.OutcomeRunning:
		return machine.CauseOf(at.Reason).NextFor(id)
	case at.Outcome == machine.OutcomeRunning:
		return "wait: " + strings.ToLower(rule.Sentence[:1]) + rule.Sentence[1:]
	}
	return "wait: nothing is asked of it"
}
