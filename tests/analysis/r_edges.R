# Computes with R's survival package what tests/analysis/test_survival_edges.py compares.
# Usage: Rscript r_edges.R edges.csv > edges_expected.csv; one row per number: case, quantity, value.
suppressPackageStartupMessages(library(survival))
options(warn = -1)
all <- read.csv(commandArgs(trailingOnly = TRUE)[1], stringsAsFactors = FALSE)
tight <- coxph.control(eps = 1e-13, toler.chol = 1e-14, iter.max = 100)
cat("case,quantity,value\n")
for (name in unique(all$case)) {
  d <- all[all$case == name, ]
  emit <- function(quantity, value) {
    text <- ifelse(is.na(value), "", formatC(as.numeric(value), digits = 15, format = "g", width = 1))
    cat(paste0('"', name, '",', quantity, ",", text, "\n"), sep = "")
  }
  for (type in c("log-log", "log", "plain")) {
    fit <- survfit(Surv(time, event) ~ 1, d, conf.type = type)
    table <- summary(fit)$table # what print(fit) shows; quantile(fit) differs where a curve ends at one half
    emit(paste0("km.", type, ".median"), table[["median"]])
    emit(paste0("km.", type, ".lower"), table[["0.95LCL"]])
    emit(paste0("km.", type, ".upper"), table[["0.95UCL"]])
    for (i in seq_along(fit$time)) {
      emit(paste0("km.", type, ".", i, ".n_risk"), fit$n.risk[i])
      emit(paste0("km.", type, ".", i, ".surv"), fit$surv[i])
      emit(paste0("km.", type, ".", i, ".lower"), fit$lower[i])
      emit(paste0("km.", type, ".", i, ".upper"), fit$upper[i])
    }
  }
  for (rho in c(0, 1)) for (strata in c("no", "yes")) {
    if (length(unique(d$group)) < 2 || sum(d$event) == 0) next
    formula <- if (strata == "yes") Surv(time, event) ~ group + strata(stratum) else Surv(time, event) ~ group
    test <- tryCatch(survdiff(formula, d, rho = rho), error = function(singular) NULL)
    if (is.null(test) || all(test$var == 0)) next # not estimable
    expected <- if (is.matrix(test$exp)) rowSums(test$exp) else test$exp
    at <- paste0("logrank.", rho, ".", strata)
    emit(paste0(at, ".statistic"), test$chisq)
    emit(paste0(at, ".df"), sum(expected > 0) - 1)
    for (i in seq_along(expected)) emit(paste0(at, ".expected", i), expected[i])
  }
  for (ties in c("efron", "breslow")) for (strata in c("no", "yes")) {
    if (length(unique(d$x)) < 2 || sum(d$event) == 0) next
    fit <- if (strata == "yes") coxph(Surv(time, event) ~ x + strata(stratum), d, ties = ties, control = tight)
           else coxph(Surv(time, event) ~ x, d, ties = ties, control = tight)
    at <- paste0("cox.", ties, ".", strata)
    if (is.na(coef(fit)) || vcov(fit)[1, 1] == 0 || abs(coef(fit)) > 10) next # not estimable
    emit(paste0(at, ".coef"), coef(fit))
    emit(paste0(at, ".se"), sqrt(vcov(fit)[1, 1]))
    emit(paste0(at, ".loglik"), fit$loglik[2])
    emit(paste0(at, ".score"), fit$score)
    zph <- tryCatch(cox.zph(fit, transform = "km")$table[1, 1], error = function(singular) NA)
    emit(paste0(at, ".zph"), zph)
  }
}
