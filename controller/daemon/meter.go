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
}

func newMeter(st *store.Store) *meter {
	m := &meter{
		registry: prometheus.NewRegistry(),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ingot_image_served_bytes_total", Help: "Bytes of images that went out to machines, by part of the image.",
		}, []string{"part"}),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ingot_image_answers_total", Help: "Answers to requests for images with a good link, by part and HTTP status.",
		}, []string{"part", "status"}),
	}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), m.bytes, m.answers,
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "ingot_boot_observations_dropped_total", Help: "Signs of booting machines that could not be kept in their history.",
		}, func() float64 { return float64(st.BootObservationsDropped()) }))
	return m
}

func (m *meter) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// served counts one answer of the image handler.
func (m *meter) served(s image.Served) {
	m.bytes.WithLabelValues(s.Part).Add(float64(s.Bytes))
	m.answers.WithLabelValues(s.Part, strconv.Itoa(s.Status)).Inc()
}

func parseDigest(s string) (manifest.Digest, error) { return manifest.ParseDigest(s) }
