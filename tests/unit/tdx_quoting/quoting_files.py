# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration files in the form in which the packages ship them."""

from __future__ import annotations

# As the packages ship them, in form.
QCNL = """{
  // *** ATTENTION : This file is in JSON format so the keys are case sensitive.

  //PCCS server address
  "pccs_url": "https://localhost:8081/sgx/certification/v4/"

  // To accept insecure HTTPS certificate, set this option to false
  ,"use_secure_cert": true

  //,"collateral_service": "https://api.trustedservices.intel.com/sgx/certification/v4/"
  ,"retry_times": 6

  //,"custom_request_options" : {
  //  "get_cert" : {
  //  }
  //}
}
"""
PCCS = """{
    "HTTPS_PORT" : 8081,
    "hosts" : "127.0.0.1",
    "ApiKey": "",
    "UserTokenHash" : "",
    "AdminTokenHash" : "",
    "CachingFillMode" : "LAZY",
    "sqlite" : {
        "options" : {
            "logging" : false, \n            "storage": "pckcache.db"
        }
    }, \n    //"mysql" : {   // Uncomment when using with MySQL
    //    "password" : "<Your MySQL password>",
    //}
}
"""
QGS = "#set port number\nport = 4050\nnumber_threads = 4\n"
