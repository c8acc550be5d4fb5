package daemon

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ingot-metal/ingot/controller/image"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/imaging/manifest"
)

// meter is what /metrics shows. No label has more values than a person can
// count: machines are in the API, not here.
type meter struct {
	registry *prometheus.Registry
	bytes    *prometheus.CounterVec
	answers  *prometheus.CounterVec
	refused  *prometheus.CounterVec
}

func newMeter(st *store.Store) *meter {
	m := &meter{
		registry: prometheus.NewRegistry(),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ingot_image_served_bytes_total",
			Help: "Bytes of images that went out, by part, whether the image is private, and way: sendfile (from the page cache by the kernel) or copy.",
		}, []string{"part", "private", "way"}),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ingot_image_answers_total", Help: "Answers to requests for images, by part and HTTP status.",
		}, []string{"part", "status"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ingot_image_refused_total",
			Help: "Requests for images that were refused or cut off, by cause: link, order, tls, certificate, unknown (nobody can tell), busy.",
		}, []string{"cause"}),
	}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), m.bytes, m.answers, m.refused,
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "ingot_boot_observations_dropped_total", Help: "Signs of booting machines that could not be kept in their history.",
		}, func() float64 { return float64(st.BootObservationsDropped()) }))
	return m
}

// images adds what the handler of images and the puller count themselves.
func (m *meter) images(h *image.Handler, p *image.Puller) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ingot_image_answers_open", Help: "Answers with images that are under way.",
	}, func() float64 { return float64(h.Open()) }))
	for _, c := range []struct {
		name, help string
		of         func(image.PullCount) uint64
	}{
		{"begun", "Pulls of images from other controllers that were begun.", func(c image.PullCount) uint64 { return c.Begun }},
		{"done", "Pulls that ended with a complete copy.", func(c image.PullCount) uint64 { return c.Done }},
		{"failed", "Pulls that broke off.", func(c image.PullCount) uint64 { return c.Failed }},
		{"bytes", "Bytes that pulls brought.", func(c image.PullCount) uint64 { return c.Bytes }},
		{"bad_frames", "Frames from other controllers that did not match their hash.", func(c image.PullCount) uint64 { return c.BadFrames }},
	} {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "ingot_image_pull_" + c.name + "_total", Help: c.help},
			func() float64 { return float64(c.of(p.Count())) }))
	}
}

func (m *meter) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// served counts one answer of the image handler.
func (m *meter) served(s image.Served) {
	private := strconv.FormatBool(s.Private)
	m.bytes.WithLabelValues(s.Part, private, "sendfile").Add(float64(s.Sendfile))
	m.bytes.WithLabelValues(s.Part, private, "copy").Add(float64(s.Bytes - s.Sendfile))
	m.answers.WithLabelValues(s.Part, strconv.Itoa(s.Status)).Inc()
	if s.Refused != "" {
		m.refused.WithLabelValues(s.Refused).Inc()
	}
}

func parseDigest(s string) (manifest.Digest, error) { return manifest.ParseDigest(s) }
