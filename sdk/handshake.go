package sdk

import (
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/patchbay/patchbay/sdk/wire"
)

// Handshake is what core and plugin show each other before anything else. It
// keeps people from starting a plugin by hand; it is not a security feature.
// It must never change: versions are negotiated by ContractVersion.
var Handshake = goplugin.HandshakeConfig{
	MagicCookieKey:   "PATCHBAY_PLUGIN",
	MagicCookieValue: "6a1f2c7e-provider",
}

// ContractVersion is the version of the plugin contract that this SDK speaks.
const ContractVersion = 1

// PluginName is the name of the one service set go-plugin dispenses.
const PluginName = "provider"

const (
	// MaxMessage bounds every message in both directions, in bytes.
	MaxMessage = 1 << 20
	// windowSize is the static HTTP/2 flow-control window: it switches gRPC's
	// bandwidth probing off, the largest single saving on the media stream.
	windowSize = 1 << 20
)

// serverOptions are the plugin's side of the connection.
func serverOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(wire.NewCodec()),
		grpc.StaticStreamWindowSize(windowSize),
		grpc.StaticConnWindowSize(windowSize),
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{PermitWithoutStream: true}),
	}
}

// DialOptions are core's side of the connection.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithStaticStreamWindowSize(windowSize),
		grpc.WithStaticConnWindowSize(windowSize),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(wire.NewCodec()),
			grpc.MaxCallRecvMsgSize(MaxMessage),
			grpc.MaxCallSendMsgSize(MaxMessage),
		),
	}
}
