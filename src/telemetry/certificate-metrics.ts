import { X509Certificate } from "node:crypto";
import type { FileValue } from "../file-value.ts";
import type { TlsMaterial } from "../tls-files.ts";
import type { MetricFamily, Sample } from "./metric-family.ts";

/**
 * From when until when the certificates of this program hold, read when somebody asks: files that were renewed are told as they are now.
 * A chain ends with its first certificate; of several authorities one that holds is enough, so they end with their last.
 *
 * @param materials by what they are for, a label: "ports", for instance; the authorities of the other side are told as "ports_ca".
 */
export function certificateMetrics(
  materials: Readonly<Record<string, FileValue<TlsMaterial> | undefined>>,
): readonly MetricFamily[] {
  const figures = (momentOf: (certificate: X509Certificate) => Date): Sample[] =>
    Object.entries(materials).flatMap(([use, material]) => {
      const { cert, ca } = material?.current ?? {};
      const [own, authority] = [byEnd(cert).at(0), byEnd(ca).at(-1)];
      const sample = (name: string, certificate: X509Certificate | undefined): Sample[] =>
        certificate === undefined ? [] : [{ labels: { use: name }, value: momentOf(certificate).getTime() / 1000 }];
      return [...sample(use, own), ...sample(`${use}_ca`, authority)];
    });
  return [
    {
      name: "tollgate_certificate_expiry_timestamp_seconds",
      help: "When a certificate ends: of our ports, of what is shown to the KeyService, and (_ca) of those the other side is checked by.",
      type: "gauge",
      read: () => figures((certificate) => certificate.validToDate),
    },
    {
      name: "tollgate_certificate_start_timestamp_seconds",
      help: "When that certificate began.",
      type: "gauge",
      read: () => figures((certificate) => certificate.validFromDate),
    },
  ];
}

const certificateForm = /-----BEGIN ((?:TRUSTED |X509 )?CERTIFICATE)-----.+?-----END \1-----/gs;

/** All of a PEM file, the first to end first. */
function byEnd(pem: Buffer | undefined): readonly X509Certificate[] {
  const texts = pem?.toString("latin1").match(certificateForm) ?? [];
  return texts
    .map((text) => new X509Certificate(text))
    .sort((one, other) => one.validToDate.getTime() - other.validToDate.getTime());
}
