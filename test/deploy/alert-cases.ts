/** For each alert figures it fires at, and figures near by that leave it silent: in promtool's notation, one a minute. */

/** Series by their name and labels; values such as `0+6x60`. */
type Figures = Readonly<Record<string, string>>;

/** When an alert fires and when not. */
export interface AlertCase {
  /** How long the figures have gone on. */
  readonly after: string;
  readonly fires: Figures;
  readonly silent: Figures;
}

const ok = 'tollgate_requests_total{model="m",code="ok",instance="a"}';
const failed = 'tollgate_requests_total{model="m",code="provider_error",instance="a"}';
const refused = 'tollgate_requests_total{model="m",code="budget_exceeded",instance="a"}';
const fine = 'tollgate_upstream_attempts_total{provider="p",model="m",outcome="ok"}';
const broken = 'tollgate_upstream_attempts_total{provider="p",model="m",outcome="provider_error"}';
const limited = 'tollgate_upstream_attempts_total{provider="p",model="m",outcome="provider_rate_limited"}';
const spent = 'tollgate_budget_spent_usd{scope="team",id="t",alias="",model="",window="30d"}';
const limit = 'tollgate_budget_limit_usd{scope="team",id="t",alias="",model="",window="30d"}';
const bucket = (name: string, le: string) => `${name}_bucket{model="m",le="${le}"}`;
const overhead = "tollgate_gateway_overhead_seconds";
const recorded = (name: string) => `tollgate:${name}`;
const errors = (range: string) => recorded(`request_errors:ratio_rate${range}`);
const firstToken = `${recorded("time_to_first_token:p95_5m")}{model="m"}`;
const costRate = `${recorded("cost_usd:rate1h")}{team="t"}`;
const dependency = (dep: string) => `tollgate_dependency_up{dep="${dep}",instance="a"}`;
const unpriced = 'tollgate_unpriced_model_requests_total{model="m"}';
const lost = 'tollgate_usage_lost_total{cause="damaged",instance="a"}';

export const alertCases: Readonly<Record<string, AlertCase>> = {
  TollgateAvailabilityBurnFast: {
    after: "90m",
    fires: { [ok]: "0+97x100", [failed]: "0+3x100" },
    silent: { [ok]: "0+97x100", [failed]: "0+0.1x100", [refused]: "0+40x100" },
  },
  TollgateAvailabilityBurnSlow: {
    after: "400m",
    fires: { [ok]: "0+990x420", [failed]: "0+10x420" },
    silent: { [ok]: "0+990x420", [failed]: "0+3x420" },
  },
  TollgateAvailabilityBurnLong: {
    after: "2h",
    fires: { [recorded("requests:rate5m")]: "1x130", [errors("3d")]: "0.002x130", [errors("6h")]: "0.002x130" },
    silent: { [recorded("requests:rate5m")]: "1x130", [errors("3d")]: "0.002x130", [errors("6h")]: "0.0005x130" },
  },
  TollgateModelDown: {
    after: "15m",
    fires: { [ok]: "0+4x20", [failed]: "0+6x20" },
    silent: { [ok]: "0+4x20", [refused]: "0+20x20", [failed]: "0+1x20" },
  },
  TollgateCallsHang: {
    after: "45m",
    fires: { 'tollgate_requests_in_flight{instance="a"}': "3x60", [ok]: "0+5x5 25x60" },
    silent: { 'tollgate_requests_in_flight{instance="a"}': "3x60", [ok]: "0+1x60" },
  },
  TollgateGatewayOverheadHigh: {
    after: "30m",
    fires: {
      [ok]: "0+60x40",
      [bucket(overhead, "0.05")]: "0+57x40",
      [bucket(overhead, "0.1")]: "0+60x40",
      [bucket(overhead, "+Inf")]: "0+60x40",
    },
    silent: {
      [ok]: "0+600x40",
      [bucket(overhead, "0.05")]: "0+599x40",
      [bucket(overhead, "0.1")]: "0+600x40",
      [bucket(overhead, "+Inf")]: "0+600x40",
    },
  },
  TollgateTimeToFirstTokenRegression: {
    after: "10150m",
    fires: { [firstToken]: "0.4x100 _x9980 1x100" },
    silent: { [firstToken]: "0.8x100 _x9980 1x100" },
  },
  TollgateProviderDown: {
    after: "20m",
    fires: { [fine]: "0+4x30", [broken]: "0+6x30" },
    silent: { [fine]: "0+6x30", [broken]: "0+4x30" },
  },
  TollgateProviderRateLimited: {
    after: "40m",
    fires: { [fine]: "0+80x50", [limited]: "0+20x50" },
    silent: { [fine]: "0+95x50", [limited]: "0+5x50" },
  },
  TollgateClientsRateLimited: {
    after: "40m",
    fires: {
      [ok]: "0+7x50",
      'tollgate_requests_total{model="m",code="rate_limit_exceeded"}': "0+3x50",
      'tollgate_rejected_total{model="m",reason="rate_limit_exceeded"}': "0+3x50",
    },
    silent: {
      [ok]: "0+9x50",
      'tollgate_requests_total{model="m",code="rate_limit_exceeded"}': "0+1x50",
      'tollgate_rejected_total{model="m",reason="rate_limit_exceeded"}': "0+1x50",
    },
  },
  TollgateFallbackRateHigh: {
    after: "40m",
    fires: { [ok]: "0+100x50", 'tollgate_fallbacks_total{from="m",to="n",reason="provider_error"}': "0+6x50" },
    silent: { [ok]: "0+100x50", 'tollgate_fallbacks_total{from="m",to="n",reason="provider_error"}': "0+4x50" },
  },
  TollgateBudgetWarning: {
    after: "15m",
    fires: { [spent]: "85x20", [limit]: "100x20" },
    silent: { [spent]: "75x20", [limit]: "100x20" },
  },
  TollgateBudgetCritical: {
    after: "15m",
    fires: { [spent]: "95x20", [limit]: "100x20" },
    silent: { [spent]: "94x20", [limit]: "100x20" },
  },
  TollgateBudgetExhaustionPredicted: {
    after: "420m",
    fires: { [spent]: "20+0.06x450", [limit]: "100x450" },
    silent: { [spent]: "20+0.02x450", [limit]: "100x450" },
  },
  TollgateSpendAnomaly: {
    after: "10150m",
    fires: { [costRate]: "0.001x100 _x9980 0.004x100" },
    silent: { [costRate]: "0.001x100 _x9980 0.002x100" },
  },
  TollgateUnpricedModel: {
    after: "90m",
    fires: { [unpriced]: "_x60 1x60" },
    silent: { [unpriced]: "1x120" },
  },
  TollgateLedgerLag: {
    after: "15m",
    fires: { 'tollgate_usage_wal_oldest_seconds{instance="a"}': "0+60x20" },
    silent: { 'tollgate_usage_wal_oldest_seconds{instance="a"}': "100x20" },
  },
  TollgateUsageLost: {
    after: "90m",
    fires: { [lost]: "0x80 1x30" },
    silent: { [lost]: "1x120" },
  },
  TollgateJournalFailing: {
    after: "30m",
    fires: { 'tollgate_usage_wal_failures_total{instance="a"}': "0x26 4x20" },
    silent: { 'tollgate_usage_wal_failures_total{instance="a"}': "4x40" },
  },
  TollgateSpendUnconfirmed: {
    after: "90m",
    fires: { tollgate_unconfirmed_usd: "2.5x100" },
    silent: { tollgate_unconfirmed_usd: "2.5x50 0x100" },
  },
  TollgateKeyServiceDown: {
    after: "10m",
    fires: { [dependency("keyservice")]: "1x5 0x10" },
    silent: { [dependency("keyservice")]: "1x9 0x10", [dependency("redis")]: "0x20" },
  },
  TollgateRedisDown: {
    after: "10m",
    fires: { [dependency("redis")]: "1x5 0x10" },
    silent: { [dependency("redis")]: "1x9 0x10", [dependency("keyservice")]: "0x20" },
  },
  TollgatePostgresDown: {
    after: "10m",
    fires: { [dependency("postgres")]: "1x5 0x10" },
    silent: { [dependency("postgres")]: "1x9 0x10", [dependency("redis")]: "0x20" },
  },
  TollgateRunningOnStalePolicy: {
    after: "15m",
    fires: {
      'tollgate_policy_age_seconds{instance="a"}': "0+60x20",
      'tollgate_policy_age_limit_seconds{instance="a"}': "900x20",
    },
    silent: {
      'tollgate_policy_age_seconds{instance="a"}': "5x20",
      'tollgate_policy_age_limit_seconds{instance="a"}': "900x20",
    },
  },
  TollgateLimitsDegraded: {
    after: "20m",
    fires: { 'tollgate_limits_degraded_total{instance="a"}': "0+5x30" },
    silent: { 'tollgate_limits_degraded_total{instance="a"}': "7x30" },
  },
  TollgateConfigReloadFailed: {
    after: "15m",
    fires: { 'tollgate_config_last_reload_successful{instance="a"}': "0x20" },
    silent: { 'tollgate_config_last_reload_successful{instance="a"}': "1x20" },
  },
  // Rules are tried from the beginning of Unix time on.
  TollgateCertificateExpiring: {
    after: "60m",
    fires: {
      'tollgate_certificate_start_timestamp_seconds{instance="a",use="ports"}': "-86400x70",
      'tollgate_certificate_expiry_timestamp_seconds{instance="a",use="ports"}': "20000x70",
    },
    silent: {
      // A day's, of which a quarter is left; and ten years', of which half a year is.
      'tollgate_certificate_start_timestamp_seconds{instance="a",use="ports"}': "-60000x70",
      'tollgate_certificate_expiry_timestamp_seconds{instance="a",use="ports"}': "26400x70",
      'tollgate_certificate_start_timestamp_seconds{instance="a",use="ports_ca"}': "-300000000x70",
      'tollgate_certificate_expiry_timestamp_seconds{instance="a",use="ports_ca"}': "15000000x70",
    },
  },
  TollgateAlertsUndelivered: {
    after: "60m",
    fires: { tollgate_alerts_waiting: "2x70" },
    silent: { tollgate_alerts_waiting: "2x40 0x30" },
  },
  TollgateTelemetryDropped: {
    after: "40m",
    fires: { 'tollgate_telemetry_dropped_total{instance="a",destination="otlp"}': "0+10x50" },
    silent: { 'tollgate_telemetry_dropped_total{instance="a",destination="otlp"}': "0x5 50x50" },
  },
  TollgateLabelsOverflow: {
    after: "30m",
    fires: { 'tollgate_label_overflows_total{instance="a"}': "0x10 5x30" },
    silent: { 'tollgate_label_overflows_total{instance="a"}': "0x40" },
  },
  TollgateMetricsAbsent: {
    after: "15m",
    fires: { 'up{job="other"}': "1x20" },
    silent: { 'tollgate_build_info{version="1"}': "1x20" },
  },
};
