package router

import (
	"time"

	"github.com/patchbay/patchbay/core/config"
	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
)

// Desk decides who may come in (core/admission does).
type Desk interface {
	// Admit checks a request of an ingress instance and reserves a seat for
	// it, or says why not.
	Admit(now time.Time, ingress string, req *pluginv1.Admit) (Seat, *pluginv1.Refused)
}

// Seat is what an admitted call holds of the app's and the node's quota.
type Seat interface {
	App() string
	Route() config.Route
	// PlatformAccount tells whether the stream may come from that account.
	PlatformAccount(id string) error
	// Release gives the seat back; more than once does no harm.
	Release()
}
