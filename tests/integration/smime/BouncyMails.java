import java.io.*;
import java.nio.file.*;
import java.security.*;
import java.security.cert.*;
import java.security.interfaces.*;
import java.security.spec.*;
import java.util.*;
import javax.crypto.spec.*;
import org.bouncycastle.asn1.*;
import org.bouncycastle.asn1.cms.*;
import org.bouncycastle.asn1.nist.*;
import org.bouncycastle.asn1.pkcs.*;
import org.bouncycastle.asn1.x509.AlgorithmIdentifier;
import org.bouncycastle.cert.jcajce.*;
import org.bouncycastle.cms.*;
import org.bouncycastle.cms.jcajce.*;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.openssl.*;
import org.bouncycastle.openssl.jcajce.*;
import org.bouncycastle.operator.*;
import org.bouncycastle.operator.jcajce.*;
import org.bouncycastle.util.Store;

/**
 * Makes one CMS structure of every kind that mail uses, with Bouncy Castle.
 *
 * <p>Arguments: folder with NAME.cert.pem and NAME.key.pem, file with the content, output folder.
 */
public final class BouncyMails {
    static Path keys, out;
    static byte[] content;

    public static void main(String[] args) throws Exception {
        Security.addProvider(new BouncyCastleProvider());
        keys = Paths.get(args[0]);
        content = Files.readAllBytes(Paths.get(args[1]));
        out = Paths.get(args[2]);
        enveloped();
        agreements();
        authenticated();
        streamed();
        compressed();
        signed();
    }

    interface Maker { byte[] make() throws Exception; }

    static void write(String name, Maker maker) throws Exception {
        try {
            Files.write(out.resolve(name + ".der"), maker.make());
        } catch (Exception e) {
            throw new Exception(name, e);
        }
    }

    static X509Certificate cert(String name) throws Exception {
        try (InputStream in = Files.newInputStream(keys.resolve(name + ".cert.pem"))) {
            return (X509Certificate) CertificateFactory.getInstance("X.509", "BC").generateCertificate(in);
        }
    }

    static PrivateKey key(String name) throws Exception {
        try (Reader in = Files.newBufferedReader(keys.resolve(name + ".key.pem"))) {
            Object o = new PEMParser(in).readObject();
            return new JcaPEMKeyConverter().setProvider("BC").getPrivateKey((PrivateKeyInfo) o);
        }
    }

    static RecipientInfoGenerator transport(String name) throws Exception {
        return new JceKeyTransRecipientInfoGenerator(cert(name)).setProvider("BC");
    }

    static RecipientInfoGenerator oaep(String name, String hash, String mask) throws Exception {
        MGF1ParameterSpec mgf = new MGF1ParameterSpec(mask);
        OAEPParameterSpec spec = new OAEPParameterSpec(hash, "MGF1", mgf, PSource.PSpecified.DEFAULT);
        AlgorithmIdentifier id = new JcaAlgorithmParametersConverter()
            .getAlgorithmIdentifier(PKCSObjectIdentifiers.id_RSAES_OAEP, spec);
        return new JceKeyTransRecipientInfoGenerator(cert(name), id).setProvider("BC");
    }

    static OutputEncryptor cipher(ASN1ObjectIdentifier id) throws Exception {
        return new JceCMSContentEncryptorBuilder(id).setProvider("BC").build();
    }

    static byte[] envelope(ASN1ObjectIdentifier id, RecipientInfoGenerator... to) throws Exception {
        CMSEnvelopedDataGenerator g = new CMSEnvelopedDataGenerator();
        for (RecipientInfoGenerator r : to) g.addRecipientInfoGenerator(r);
        return g.generate(new CMSProcessableByteArray(content), cipher(id)).getEncoded();
    }

    static void enveloped() throws Exception {
        Map<String, ASN1ObjectIdentifier> ciphers = new LinkedHashMap<>();
        ciphers.put("aes128", CMSAlgorithm.AES128_CBC);
        ciphers.put("aes192", CMSAlgorithm.AES192_CBC);
        ciphers.put("aes256", CMSAlgorithm.AES256_CBC);
        ciphers.put("3des", CMSAlgorithm.DES_EDE3_CBC);
        // Not as RFC 5084 wants it, but as it was sent for years.
        ciphers.put("gcm-in-enveloped", CMSAlgorithm.AES256_GCM);
        for (Map.Entry<String, ASN1ObjectIdentifier> c : ciphers.entrySet()) {
            write("rsa-" + c.getKey(), () -> envelope(c.getValue(), transport("rsa")));
            write("oaep-" + c.getKey(), () -> envelope(c.getValue(), oaep("rsa", "SHA-256", "SHA-256")));
        }
        for (String h : new String[] {"SHA-1", "SHA-224", "SHA-256", "SHA-384", "SHA-512"})
            for (String m : new String[] {"SHA-1", "SHA-256", "SHA-512"})
                write("oaep-" + h + "-mgf-" + m, () -> envelope(CMSAlgorithm.AES128_CBC, oaep("rsa", h, m)));
        write("rsa-key-id", () -> {
            byte[] ski = new JcaX509ExtensionUtils()
                .createSubjectKeyIdentifier(cert("rsa").getPublicKey()).getKeyIdentifier();
            return envelope(CMSAlgorithm.AES256_CBC,
                new JceKeyTransRecipientInfoGenerator(ski, cert("rsa").getPublicKey()).setProvider("BC"));
        });
        write("several", () -> envelope(CMSAlgorithm.AES256_CBC, transport("stranger"),
            agreement("p256", "sender-p256", CMSAlgorithm.ECDH_SHA256KDF, CMSAlgorithm.AES256_WRAP),
            oaep("stranger", "SHA-256", "SHA-256"), transport("rsa")));
    }

    static RecipientInfoGenerator agreement(
            String to, String from, ASN1ObjectIdentifier scheme, ASN1ObjectIdentifier wrap) throws Exception {
        PublicKey pub = cert(to).getPublicKey();
        KeyPairGenerator g = KeyPairGenerator.getInstance("EC", "BC");
        g.initialize(((ECPublicKey) pub).getParams());
        KeyPair pair = g.generateKeyPair();
        JceKeyAgreeRecipientInfoGenerator r =
            new JceKeyAgreeRecipientInfoGenerator(scheme, pair.getPrivate(), pair.getPublic(), wrap);
        r.addRecipient(cert(to));
        return r.setProvider("BC");
    }

    static void agreements() throws Exception {
        Map<String, ASN1ObjectIdentifier> schemes = new LinkedHashMap<>();
        schemes.put("sha1", CMSAlgorithm.ECDH_SHA1KDF);
        schemes.put("sha224", CMSAlgorithm.ECDH_SHA224KDF);
        schemes.put("sha256", CMSAlgorithm.ECDH_SHA256KDF);
        schemes.put("sha384", CMSAlgorithm.ECDH_SHA384KDF);
        schemes.put("sha512", CMSAlgorithm.ECDH_SHA512KDF);
        schemes.put("cofactor-sha256", CMSAlgorithm.ECCDH_SHA256KDF);
        Map<String, ASN1ObjectIdentifier> wraps = new LinkedHashMap<>();
        wraps.put("wrap128", CMSAlgorithm.AES128_WRAP);
        wraps.put("wrap192", CMSAlgorithm.AES192_WRAP);
        wraps.put("wrap256", CMSAlgorithm.AES256_WRAP);
        for (String to : new String[] {"p256", "p384", "p521", "brainpool256", "brainpool384"})
            for (Map.Entry<String, ASN1ObjectIdentifier> s : schemes.entrySet())
                for (Map.Entry<String, ASN1ObjectIdentifier> w : wraps.entrySet()) {
                    write(to + "-" + s.getKey() + "-" + w.getKey(), () -> envelope(CMSAlgorithm.AES256_CBC,
                        agreement(to, to, s.getValue(), w.getValue())));
                }
    }

    static byte[] authEnvelope(ASN1ObjectIdentifier id, boolean attributes, RecipientInfoGenerator... to)
            throws Exception {
        CMSAuthEnvelopedDataGenerator g = new CMSAuthEnvelopedDataGenerator();
        for (RecipientInfoGenerator r : to) g.addRecipientInfoGenerator(r);
        if (attributes) {
            Hashtable<ASN1ObjectIdentifier, org.bouncycastle.asn1.cms.Attribute> t = new Hashtable<>();
            t.put(CMSAttributes.signingTime, new org.bouncycastle.asn1.cms.Attribute(
                CMSAttributes.signingTime, new DERSet(new org.bouncycastle.asn1.cms.Time(new Date()))));
            g.setAuthenticatedAttributeGenerator(parameters -> new AttributeTable(t));
        }
        return g.generate(new CMSProcessableByteArray(content),
            (OutputAEADEncryptor) new JceCMSContentEncryptorBuilder(id).setProvider("BC").build()).getEncoded();
    }

    static void authenticated() throws Exception {
        write("auth-aes128", () -> authEnvelope(CMSAlgorithm.AES128_GCM, false, transport("rsa")));
        write("auth-aes192", () -> authEnvelope(CMSAlgorithm.AES192_GCM, false, oaep("rsa", "SHA-256", "SHA-256")));
        write("auth-aes256", () -> authEnvelope(CMSAlgorithm.AES256_GCM, false,
            agreement("p256", "p256", CMSAlgorithm.ECDH_SHA256KDF, CMSAlgorithm.AES256_WRAP)));
        write("auth-attributes", () -> authEnvelope(CMSAlgorithm.AES256_GCM, true, transport("rsa")));
    }

    static void streamed() throws Exception {
        for (int size : new int[] {7, 1000}) {
            write("stream-" + size, () -> {
                CMSEnvelopedDataStreamGenerator g = new CMSEnvelopedDataStreamGenerator();
                g.addRecipientInfoGenerator(transport("rsa"));
                g.setBufferSize(size);
                g.setBEREncodeRecipients(true);
                ByteArrayOutputStream bytes = new ByteArrayOutputStream();
                try (OutputStream o = g.open(bytes, cipher(CMSAlgorithm.AES256_CBC))) { o.write(content); }
                return bytes.toByteArray();
            });
        }
    }

    static void compressed() throws Exception {
        write("compressed", () -> new CMSCompressedDataGenerator().generate(
            new CMSProcessableByteArray(content),
            new org.bouncycastle.cms.jcajce.ZlibCompressor()).getEncoded());
    }

    static byte[] sign(String name, String algorithm, boolean attributes, boolean inside) throws Exception {
        CMSSignedDataGenerator g = new CMSSignedDataGenerator();
        ContentSigner signer = new JcaContentSignerBuilder(algorithm).setProvider("BC").build(key(name));
        JcaSignerInfoGeneratorBuilder b = new JcaSignerInfoGeneratorBuilder(
            new JcaDigestCalculatorProviderBuilder().setProvider("BC").build());
        b.setDirectSignature(!attributes);
        g.addSignerInfoGenerator(b.build(signer, cert(name)));
        g.addCertificates(new JcaCertStore(Collections.singletonList(cert(name))));
        return g.generate(new CMSProcessableByteArray(content), inside).getEncoded();
    }

    static void signed() throws Exception {
        String[][] kinds = {
            {"rsa-sha256", "sender-rsa", "SHA256withRSA"}, {"rsa-sha512", "sender-rsa", "SHA512withRSA"},
            {"rsa-sha3", "sender-rsa", "SHA3-256withRSA"},
            {"pss-sha256", "sender-rsa", "SHA256withRSAandMGF1"}, {"pss-sha512", "sender-rsa", "SHA512withRSAandMGF1"},
            {"ecdsa-sha256", "sender-p256", "SHA256withECDSA"}, {"ecdsa-sha512", "sender-p256", "SHA512withECDSA"},
            {"ed25519", "sender-ed25519", "Ed25519"},
        };
        for (String[] k : kinds) {
            write("signed-" + k[0], () -> sign(k[1], k[2], true, true));
            write("bare-" + k[0], () -> sign(k[1], k[2], false, true));
            write("detached-" + k[0], () -> sign(k[1], k[2], true, false));
        }
    }
}
