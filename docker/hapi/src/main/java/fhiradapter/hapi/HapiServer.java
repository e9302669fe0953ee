package fhiradapter.hapi;

import ca.uhn.fhir.batch2.api.IJobMaintenanceService;
import ca.uhn.fhir.batch2.jobs.bulkmodify.reindex.ReindexProvider;
import ca.uhn.fhir.batch2.jobs.export.BulkDataExportProvider;
import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.IValidationSupport;
import ca.uhn.fhir.jpa.api.config.JpaStorageSettings;
import ca.uhn.fhir.jpa.api.dao.IFhirSystemDao;
import ca.uhn.fhir.jpa.config.r4.JpaR4Config;
import ca.uhn.fhir.jpa.config.r5.JpaR5Config;
import ca.uhn.fhir.jpa.provider.IJpaSystemProvider;
import ca.uhn.fhir.jpa.provider.JpaCapabilityStatementProvider;
import ca.uhn.fhir.jpa.provider.ValueSetOperationProvider;
import ca.uhn.fhir.jpa.search.DatabaseBackedPagingProvider;
import ca.uhn.fhir.rest.api.EncodingEnum;
import ca.uhn.fhir.rest.server.RestfulServer;
import ca.uhn.fhir.rest.server.provider.ResourceProviderFactory;
import ca.uhn.fhir.rest.server.util.ISearchParamRegistry;
import java.io.IOException;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.HttpConfiguration;
import org.eclipse.jetty.server.HttpConnectionFactory;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.springframework.web.context.support.AnnotationConfigWebApplicationContext;

/**
 * A HAPI FHIR server, R4 or R5 by {@code -Dhapi.release}, on the loopback interface, for tests and demonstrations
 * with synthetic data.
 *
 * <p>It prints one line to stdout, {@code READY <base URL>}, once it answers, and ends when its stdin ends: a server
 * whose starter has died, however it died, does not stay behind. Port 0 lets the kernel choose a free port.
 */
public final class HapiServer {

  private static final String RELEASE = System.getProperty("hapi.release", "r4");
  private static final int PORT = Integer.getInteger("hapi.port", 0);
  private static final int DEFAULT_PAGE = Integer.getInteger("hapi.defaultPage", 20);
  private static final int MAX_PAGE = Integer.getInteger("hapi.maxPage", 1000);
  /** HAPI moves bulk-data jobs on once a minute; with this shorter tick they take seconds. */
  private static final long BATCH_TICK_MS = Long.getLong("hapi.batchTickMs", 1000L);

  private HapiServer() {}

  public static void main(String[] args) throws Exception {
    Server jetty = new Server();
    HttpConfiguration http = new HttpConfiguration();
    http.setRequestHeaderSize(64 * 1024);
    ServerConnector connector = new ServerConnector(jetty, new HttpConnectionFactory(http));
    connector.setHost("127.0.0.1");
    connector.setPort(PORT);
    connector.setIdleTimeout(300_000);
    jetty.addConnector(connector);
    ServletContextHandler context = new ServletContextHandler("/");
    jetty.setHandler(context);

    AnnotationConfigWebApplicationContext beans = new AnnotationConfigWebApplicationContext();
    beans.setServletContext(context.getServletContext());
    beans.register(jpaConfig(), Storage.class);
    beans.refresh();

    ServletHolder holder = new ServletHolder(fhirServlet(beans));
    holder.setInitOrder(1);
    context.addServlet(holder, "/fhir/*");
    Runtime.getRuntime().addShutdownHook(new Thread(() -> {
      try {
        jetty.stop();
      } catch (Exception failure) {
        failure.printStackTrace();
      }
      beans.close();
    }));
    jetty.start();
    daemon("batch-tick", () -> moveJobsOn(beans.getBean(IJobMaintenanceService.class)));
    daemon("stdin-watch", HapiServer::endWithStdin);
    System.out.println("READY http://127.0.0.1:" + connector.getLocalPort() + "/fhir");
    jetty.join();
  }

  /** HAPI's configuration of a release; it brings the FhirContext, the DAOs and the resource providers. */
  private static Class<?> jpaConfig() {
    return switch (RELEASE) {
      case "r4" -> JpaR4Config.class;
      case "r5" -> JpaR5Config.class;
      default -> throw new IllegalArgumentException("hapi.release is r4 or r5, not " + RELEASE);
    };
  }

  private static RestfulServer fhirServlet(AnnotationConfigWebApplicationContext beans) {
    RestfulServer servlet = new RestfulServer(beans.getBean(FhirContext.class));
    IFhirSystemDao<?, ?> system = beans.getBean(IFhirSystemDao.class);
    servlet.registerProviders(beans.getBean(ResourceProviderFactory.class).createProviders());
    servlet.registerProvider(beans.getBean(IJpaSystemProvider.class));
    JpaCapabilityStatementProvider capability = new JpaCapabilityStatementProvider(
        servlet, system, beans.getBean(JpaStorageSettings.class),
        beans.getBean(ISearchParamRegistry.class), beans.getBean(IValidationSupport.class));
    capability.setImplementationDescription("HAPI FHIR " + RELEASE.toUpperCase() + " with synthetic data");
    servlet.setServerConformanceProvider(capability);
    servlet.setDefaultResponseEncoding(EncodingEnum.JSON);
    DatabaseBackedPagingProvider paging = beans.getBean(DatabaseBackedPagingProvider.class);
    paging.setDefaultPageSize(DEFAULT_PAGE);
    paging.setMaximumPageSize(MAX_PAGE);
    servlet.setPagingProvider(paging);
    servlet.registerProvider(beans.getBean(ValueSetOperationProvider.class));
    servlet.registerProvider(beans.getBean(ReindexProvider.class));
    servlet.registerProvider(beans.getBean(BulkDataExportProvider.class));
    beans.getAutowireCapableBeanFactory().autowireBean(servlet);
    return servlet;
  }

  private static void daemon(String name, Runnable work) {
    Thread thread = new Thread(work, name);
    thread.setDaemon(true);
    thread.start();
  }

  private static void moveJobsOn(IJobMaintenanceService jobs) {
    while (true) {
      try {
        Thread.sleep(BATCH_TICK_MS);
        jobs.forceMaintenancePass();
      } catch (InterruptedException ended) {
        return;
      } catch (RuntimeException failure) {
        System.err.println("batch tick: " + failure);
      }
    }
  }

  private static void endWithStdin() {
    try {
      while (System.in.read() >= 0) {
        // Nothing is ever sent; only the end counts.
      }
    } catch (IOException closed) {
      System.err.println("stdin: " + closed);
    }
    System.exit(0);
  }
}
