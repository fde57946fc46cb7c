"""What students try that is wrong, for each lab, and what the check must say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Mistake(NamedTuple):
    """Commands, typed in the lab's first state.

    :ivar told: a regular expression that one of the wrong lines fits.
    """

    commands: str
    told: str


class Case(NamedTuple):
    """What a lab's check must tell: of the first state, and of mistakes."""

    first: str
    mistakes: Sequence[Mistake]


_UPGRADE = "helm upgrade shop helm/ -n ecommerce --reuse-values --wait "
_PATCH = "kubectl -n ecommerce patch "

CASES: Mapping[tuple[str, str], Case] = {
    (lab, mesh): case
    for lab, mesh, case in (
        *(
            (
                "01-see-the-mesh",
                mesh,
                Case(
                    r"\d+ calls for 3 orders took more than 300 ms",
                    [
                        Mistake(
                            f"{_UPGRADE} --set-string "
                            "services.shipping.environment.FAULT_LATENCY_SECONDS=0.4",
                            r"\d+ calls for 3 orders took more than 300 ms",
                        ),
                        Mistake(
                            "kubectl -n ecommerce scale deployment/shipping-service --replicas=0",
                            "only 0 of 3 orders were placed",
                        ),
                    ],
                ),
            )
            for mesh in ("istio", "linkerd")
        ),
        (
            "03-who-may-call-whom",
            "istio",
            Case(
                "a taken-over frontend is answered when it asks for payment's RPCs",
                [
                    Mistake(
                        "kubectl -n ecommerce delete authorizationpolicies.security.istio.io "
                        "payment-service",
                        "a customer cannot buy",
                    ),
                    Mistake(
                        """kubectl apply -f - <<'END'
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: not-frontend, namespace: ecommerce}
spec:
  action: DENY
  rules:
    - from: [{source: {principals: [cluster.local/ns/ecommerce/sa/frontend]}}]
      to: [{operation: {paths: [/meshmart.payment.v1.PaymentService/*]}}]
END""",
                        "a taken-over shipping is answered when it asks for payment's RPCs",
                    ),
                ],
            ),
        ),
        (
            "03-who-may-call-whom",
            "linkerd",
            Case(
                "a taken-over frontend is answered when it asks for payment's RPCs",
                [
                    Mistake(
                        "kubectl -n ecommerce delete authorizationpolicies.policy.linkerd.io "
                        "payment-service-grpc-for-order",
                        "a customer cannot buy",
                    ),
                    Mistake(
                        f"{_PATCH} meshtlsauthentication shop --type merge -p "
                        """'{"spec": {"identities": """
                        """["*.ecommerce.serviceaccount.identity.linkerd.cluster.local"]}}'""",
                        "a taken-over frontend is answered when it asks for payment's RPCs",
                    ),
                ],
            ),
        ),
        (
            "06-canary",
            "istio",
            Case(
                "of 200 requests at /api, .*times 503.*: some fail",
                [
                    Mistake(
                        f"{_PATCH} destinationrule product-service --type json -p "
                        """'[{"op": "replace", "path": "/spec/subsets/1/labels/version", """
                        """"value": "v2"}]'""",
                        "who asks with the header is answered by .* not by v2 each time",
                    ),
                    Mistake(
                        "kubectl apply -f mesh/istio/base/routes.yaml "
                        "-f mesh/istio/base/calls.yaml\n"
                        "kubectl apply -k mesh/istio/base/destinations/product",
                        r"\d+ of 200 requests at /api are answered by v2, not about 20",
                    ),
                ],
            ),
        ),
        (
            "06-canary",
            "linkerd",
            Case(
                r"of 200 requests at /api, .*times 50\d.*: some fail",
                [
                    Mistake(
                        f"{_PATCH} service product-service-canary --type merge -p "
                        """'{"spec": {"selector": {"version": "v2"}}}'""",
                        "who asks with the header is answered by .* not by v2 each time",
                    ),
                    Mistake(
                        "kubectl apply -f mesh/linkerd/base/calls.yaml",
                        r"\d+ of 200 requests at /api are answered by v2, not about 20",
                    ),
                ],
            ),
        ),
        (
            "10-a-sick-pod",
            "istio",
            Case(
                r"the sick pod is still asked: \d+ requests reached it",
                [
                    Mistake(
                        "kubectl -n ecommerce label pods -l sick=true sick-",
                        "there is no sick payment pod beside one that is well",
                    ),
                    Mistake(
                        f"{_PATCH} destinationrule payment-service --type merge -p "
                        """'{"spec": {"trafficPolicy": {"outlierDetection": """
                        """{"consecutiveGatewayErrors": 1000}}}}'""",
                        r"the sick pod is still asked: \d+ requests reached it",
                    ),
                ],
            ),
        ),
        (
            "10-a-sick-pod",
            "linkerd",
            Case(
                r"the sick pod is still asked: \d+ requests reached it",
                [
                    Mistake(
                        "kubectl -n ecommerce exec deployment/faulty -c faulty -- touch /tmp/well",
                        "there is no sick payment pod beside one that is well",
                    ),
                    Mistake(
                        "kubectl -n ecommerce annotate --overwrite service payment-service "
                        'balancer.linkerd.io/failure-accrual-consecutive-max-failures="500"',
                        r"the sick pod is still asked: \d+ requests reached it",
                    ),
                ],
            ),
        ),
    )
}
