"""The same three questions (how many requests, how many fail, how long do they take) to three
witnesses: the services themselves, Istio's proxies and Linkerd's.
"""

from __future__ import annotations

from dataclasses import dataclass

# Grafana puts in the window that a rate needs at the least, and the values of the variables.
WINDOW = "$__rate_interval"
# What a service calls the failures that are its own: HTTP's statuses, and the kinds of errors of
# services/common/errors.py, which gRPC's are counted by.
FAILURES = 'status=~"5..|internal|timeout|unavailable"'
# What a caller sees, with the calls that it has not even made.
FAILED_CALLS = 'status=~"5..|refused|internal|timeout|unavailable"'


def total(metric: str, by: str, *selectors: str) -> str:
    """The increase of a counter a second, summed up by labels."""
    return f"sum by ({by}) (rate({metric}{{{','.join(selectors)}}}[{WINDOW}]))"


def increase(metric: str, by: str, *selectors: str) -> str:
    """How often something rare has happened in the last five minutes, by labels."""
    return f"sum by ({by}) (increase({metric}{{{','.join(selectors)}}}[5m]))"


def share(parts: list[str], whole: str) -> str:
    """Parts of a whole, of which some may not have happened yet."""
    known = " + ".join(f"({part} or 0 * {whole})" for part in parts)
    return f"({known}) / {whole}"


def quantile(q: float, metric: str, by: str, *selectors: str) -> str:
    """A quantile of a histogram."""
    return f"histogram_quantile({q}, {total(f'{metric}_bucket', f'le, {by}', *selectors)})"


@dataclass(frozen=True, slots=True)
class Witness:
    """Who has counted the requests.

    :ivar key: what files and links call it; "" for the services themselves.
    :ivar where: "" or " in Istio", of a title.
    :ivar requests: the counter of requests.
    :ivar failures: alternatives of selectors; what any of them fits is a failure.
    :ivar seconds: the histogram of times, without its suffix.
    :ivar unit: Grafana's name of that histogram's unit.
    :ivar scope: the selectors of a namespace and a choice of services.
    :ivar app: the label that names the service asked.
    :ivar version: the label that names its version.
    :ivar says: what it can see that others cannot.
    """

    key: str
    where: str
    requests: str
    failures: tuple[str, ...]
    seconds: str
    unit: str
    scope: str
    app: str
    version: str
    says: str

    def rate(self, by: str) -> str:
        """Requests a second."""
        return total(self.requests, by, self.scope)

    def failure_share(self, by: str) -> str:
        """The share of them that failed."""
        failed = [total(self.requests, by, self.scope, failure) for failure in self.failures]
        return share(failed, self.rate(by))

    def time(self, q: float, by: str) -> str:
        """A quantile of how long they took."""
        return quantile(q, self.seconds, by, self.scope)


SERVICES = Witness(
    key="",
    where="",
    requests="meshmart_request_seconds_count",
    failures=(FAILURES,),
    seconds="meshmart_request_seconds",
    unit="s",
    scope='namespace="$namespace",app=~"$service"',
    app="app",
    version="version",
    says="Counted by the services themselves. What never reached one is not in it.",
)
ISTIO = Witness(
    key="istio",
    where=" in Istio",
    requests="istio_requests_total",
    # By HTTP's status, or, where that is 200, by gRPC's: unknown, deadline, internal, unavailable.
    failures=(
        'response_code=~"5.."',
        'response_code!~"5..",grpc_response_status=~"2|4|13|14"',
    ),
    seconds="istio_request_duration_milliseconds",
    unit="ms",
    scope='reporter="source",destination_service_namespace="$namespace",'
    'destination_service_name=~"$service"',
    app="destination_service_name",
    version="destination_canonical_revision",
    says="Counted by the callers' proxies and the gateway: what a mesh has refused, aborted or "
    "given up on is in it, too.",
)
LINKERD = Witness(
    key="linkerd",
    where=" in Linkerd",
    requests="response_total",
    failures=('classification="failure"',),
    seconds="response_latency_ms",
    unit="ms",
    # Over mTLS, so without the kubelet, and without who reads metrics.
    scope='direction="inbound",tls="true",client_id!~"prometheus[.].*",'
    'namespace="$namespace",app_kubernetes_io_name=~"$service"',
    app="app_kubernetes_io_name",
    version="version",
    says="Counted by the proxies of those who are asked. What was refused by a rule is below.",
)
WITNESSES = (SERVICES, ISTIO, LINKERD)
