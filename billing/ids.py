"""Ids and codes that callers send and that end up in URLs and headers of calls to Stripe."""

import re

ACCOUNT = re.compile(r"default|acct_[A-Za-z0-9]{1,64}", re.ASCII)
PRICE = re.compile(r"price_[A-Za-z0-9]{1,64}", re.ASCII)
SUBSCRIPTION_ITEM = re.compile(r"si_[A-Za-z0-9]{1,64}", re.ASCII)
CUSTOMER = re.compile(r"cus_[A-Za-z0-9]{1,64}", re.ASCII)

# Currencies that Stripe can charge (docs.stripe.com/currencies), lower case as on its wire.
_CODES = (
    "aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd bwp byn "
    "bzd cad cdf chf clp cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd "
    "gnf gtq gyd hkd hnl htg huf idr ils inr isk jmd jod jpy kes kgs khr kmf krw kwd kyd kzt lak "
    "lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd "
    "omr pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr sek sgd shp sle sos srd std "
    "szl thb tjs tnd top try ttd twd tzs uah ugx usd uyu uzs vnd vuv wst xaf xcd xcg xof xpf yer "
    "zar zmw"
)
CURRENCIES = frozenset(_CODES.split())
