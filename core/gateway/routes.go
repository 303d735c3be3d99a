package gateway

import (
	"fmt"

	"github.com/patchbay/patchbay/core/config"
	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
)

// CheckRoutes tells which routes begin at a plugin that brings no calls, or
// end at one that places none. Instances whose kind is not known are left out.
func CheckRoutes(cfg *config.Config, kinds map[string]pluginv1.Kind) []error {
	var errs []error
	for i, r := range cfg.Routes {
		if k := kinds[r.From]; k == pluginv1.Kind_KIND_EGRESS {
			errs = append(errs, fmt.Errorf("routes[%d].from: %s places calls and brings none: name an ingress plugin", i, r.From))
		}
		if k := kinds[r.To]; k == pluginv1.Kind_KIND_INGRESS {
			errs = append(errs, fmt.Errorf("routes[%d].to: %s brings calls and places none: name an egress plugin", i, r.To))
		}
	}
	return errs
}
