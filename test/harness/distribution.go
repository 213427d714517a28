// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"

	"k8s.io/apimachinery/pkg/util/wait"
)

// DistributionHasReferrers says whether Distribution has the referrers API of OCI 1.1.
// It responds with 404, so clients keep referrers under a tag.
const DistributionHasReferrers = false

var distribution = tool{name: "registry", module: "github.com/distribution/distribution/v3", version: "v3.1.2", main: "cmd/registry"}

// BuildDistribution builds the program if it is missing and writes its progress to out.
// The first build takes about two minutes on two cores.
func BuildDistribution(ctx context.Context, out io.Writer) error {
	return distribution.install(ctx, out)
}

// DistributionOptions are the features of a Distribution that are off by default.
type DistributionOptions struct {
	// TLS makes the registry serve only HTTPS, see CA.
	TLS bool
	// Users maps user names to passwords. If there are users, all requests need a
	// password.
	Users map[string]string
}

// Distribution is a running CNCF Distribution, the registry behind Docker Hub and
// others. It keeps its content in files, which Stop removes.
type Distribution struct {
	host, dir, ca string
	log           *transcript
	transport     *http.Transport

	end   context.CancelFunc
	ended chan struct{} // closed when the program has ended
	exit  error         // how the program has ended
}

// StartDistribution starts an empty registry that ends with Stop, or when this process
// ends. The log, with a line for each request, goes to out.
func StartDistribution(ctx context.Context, out io.Writer, options DistributionOptions) (*Distribution, error) {
	ports, err := freePorts(ctx, 1)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "distribution-")
	if err != nil {
		return nil, err
	}
	d := &Distribution{
		host: net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0])), dir: dir,
		log: &transcript{out: out}, transport: &http.Transport{ForceAttemptHTTP2: true}, ended: make(chan struct{}),
	}
	if err = d.writeFiles(options); err == nil {
		err = d.run(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting CNCF Distribution: %w", err), os.RemoveAll(dir))
	}
	if err := d.waitReady(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("starting CNCF Distribution: %w", err), d.Stop())
	}
	return d, nil
}

// Host returns the host and port of the registry, with which references to its images
// start.
func (d *Distribution) Host() string { return d.host }

// CA returns the path of a PEM file with the certificate of the registry, which clients
// have to trust. Without TLS the path is empty.
func (d *Distribution) CA() string { return d.ca }

// Transport returns a transport for clients that trusts only CA.
func (d *Distribution) Transport() *http.Transport { return d.transport.Clone() }

// Log returns the output of the program so far.
func (d *Distribution) Log() string { return d.log.String() }

// Stop ends the program and removes its content. It returns an error if the program has
// ended before.
func (d *Distribution) Stop() error {
	var err error
	select {
	case <-d.ended:
		err = fmt.Errorf("the registry at %s ended before it was stopped: %w", d.host, d.exit)
	default:
	}
	d.end()
	<-d.ended
	d.transport.CloseIdleConnections()
	return errors.Join(err, os.RemoveAll(d.dir))
}

// run starts the program. The end of its context kills the program at once, because its
// content is removed anyway.
func (d *Distribution) run(ctx context.Context) error {
	lifetime, end := context.WithCancel(context.WithoutCancel(ctx)) // only Stop ends the program
	cmd := command(lifetime, d.log, distribution.path(), "serve", d.configFile())
	cmd.SysProcAttr = dieWithParent()
	cmd.Env = []string{ // without REGISTRY_ variables, which override the file
		"PATH=" + os.Getenv("PATH"), "HOME=" + d.dir,
		"OTEL_TRACES_EXPORTER=none", // otherwise it sends traces to localhost:4318
	}
	if err := startOnLockedThread(cmd); err != nil {
		end()
		return err
	}
	d.end = end
	go func() {
		d.exit = cmd.Wait()
		close(d.ended)
	}()
	return nil
}

func (d *Distribution) waitReady(ctx context.Context) error {
	url := "http://" + d.host + "/v2/"
	if d.ca != "" {
		url = "https://" + d.host + "/v2/"
	}
	return wait.PollUntilContextTimeout(ctx, PollInterval, startTimeout, true, func(ctx context.Context) (bool, error) {
		select {
		case <-d.ended:
			return false, fmt.Errorf("it ended before it was ready: %w: %s", d.exit, d.Log())
		default:
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return false, err
		}
		response, err := d.transport.RoundTrip(request)
		if err != nil {
			return false, nil //nolint:nilerr // it does not listen yet
		}
		return true, response.Body.Close()
	})
}
