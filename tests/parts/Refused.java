import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.util.TreeMap;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** Uploads a file with a token that is none, over both versions of HTTP, and counts what comes back. */
public class Refused {
    public static void main(String[] arguments) throws Exception {
        KeyStore authorities = KeyStore.getInstance("PKCS12");
        authorities.load(null, null);
        for (Certificate one : CertificateFactory.getInstance("X.509").generateCertificates(Files.newInputStream(Path.of(arguments[0])))) {
            authorities.setCertificateEntry(String.valueOf(one.hashCode()), one);
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(authorities);
        SSLContext tls = SSLContext.getInstance("TLS");
        tls.init(null, trust.getTrustManagers(), null);
        byte[] body = Files.readAllBytes(Path.of(arguments[2]));
        for (HttpClient.Version version : HttpClient.Version.values()) {
            TreeMap<String, Integer> seen = new TreeMap<>();
            for (int n = 0; n < Integer.parseInt(arguments[3]); n++) {
                String answer;
                try {
                    HttpClient client = HttpClient.newBuilder().sslContext(tls).version(version).build();
                    HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[1]))
                            .header("authorization", "Bearer not.a.token")
                            .POST(HttpRequest.BodyPublishers.ofByteArray(body))
                            .build();
                    HttpResponse<String> got = client.send(request, HttpResponse.BodyHandlers.ofString());
                    answer = got.statusCode() + (got.body().contains("invalid_token") ? "" : " without a body");
                } catch (Exception error) {
                    answer = error.toString();
                }
                seen.merge(answer, 1, Integer::sum);
            }
            System.out.println(version + " " + seen);
        }
    }
}
