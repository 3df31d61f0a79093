# Op alle pagina's.
brand = Beveiligde toegang
protected-by = Beveiligd door Sluis
language-label = Taal
request-id = Verzoeknummer
error-prefix = Fout
logging-in-as = U logt in als
logged-in-as = U bent ingelogd als
to-login = Naar de inlogpagina
to-app = Naar { $app }
new-tab = (opent in een nieuw tabblad)

# Tijdsduren, midden in een zin.
seconds =
    { $count ->
        [one] 1 seconde
       *[other] { $count } seconden
    }
minutes =
    { $count ->
        [one] 1 minuut
       *[other] { $count } minuten
    }
hours = { $count } uur
