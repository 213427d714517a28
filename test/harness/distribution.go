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

// DistributionHasReferrers says whether Distribution has the referrers API of
// OCI 1.1. It answers 404, so that clients keep referrers under a tag.
const DistributionHasReferrers = false

var distribution = tool{name: "registry", module: "github.com/distribution/distribution/v3", version: "v3.1.2", main: "cmd/registry"}

// BuildDistribution makes the program if it is missing and writes its progress
// to out. The first time it takes about two minutes on two cores.
func BuildDistribution(ctx context.Context, out io.Writer) error {
	return distribution.install(ctx, out)
}

// DistributionOptions are what a Distribution does not do by itself.
type DistributionOptions struct {
	// TLS makes it serve HTTPS and nothing else, see CA.
	TLS bool
	// Users has passwords by user name. If there are any, nobody else may read
	// or write.
	Users map[string]string
}

// Distribution is a running registry of the CNCF, the one behind Docker Hub and
// others. It keeps its content in files, which are gone when it stops.
type Distribution struct {
	host, dir, ca string
	log           *transcript
	transport     *http.Transport

	end   context.CancelFunc
	ended chan struct{} // closed when it has ended, with exit
	exit  error
}

// StartDistribution starts an empty registry that ends with this process at the
// latest. Its log, which has a line for each request, goes to out.
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
		return nil, errors.Join(fmt.Errorf("starting a registry: %w", err), os.RemoveAll(dir))
	}
	if err := d.waitReady(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("starting a registry: %w", err), d.Stop())
	}
	return d, nil
}

// Host is where references to its images start, host and port.
func (d *Distribution) Host() string { return d.host }

// CA is a file with the certificate that it serves with and that clients have to
// trust, in PEM; without TLS it is empty.
func (d *Distribution) CA() string { return d.ca }

// Transport is that of a client which trusts CA and nothing else.
func (d *Distribution) Transport() *http.Transport { return d.transport.Clone() }

// Log is what it has printed up to now.
func (d *Distribution) Log() string { return d.log.String() }

// Stop ends it and removes what was pushed. That it has ended before is an
// error.
func (d *Distribution) Stop() error {
	var err error
	select {
	case <-d.ended:
		err = fmt.Errorf("the registry at %s ended by itself: %w", d.host, d.exit)
	default:
	}
	d.end()
	<-d.ended
	d.transport.CloseIdleConnections()
	return errors.Join(err, os.RemoveAll(d.dir))
}

// run starts the program. It needs no time to end in order: nothing of it stays.
func (d *Distribution) run(ctx context.Context) error {
	lifetime, end := context.WithCancel(context.WithoutCancel(ctx)) // Stop ends it
	cmd := command(lifetime, d.log, distribution.path(), "serve", d.configFile())
	cmd.SysProcAttr = dieWithParent()
	cmd.Env = []string{ // none of the REGISTRY_ variables, which overrule the file
		"PATH=" + os.Getenv("PATH"), "HOME=" + d.dir,
		"OTEL_TRACES_EXPORTER=none", // else it sends traces to localhost:4318
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
	return wait.PollUntilContextTimeout(ctx, pollInterval, startTimeout, true, func(ctx context.Context) (bool, error) {
		select {
		case <-d.ended:
			return false, fmt.Errorf("it ended: %w: %s", d.exit, d.Log())
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
